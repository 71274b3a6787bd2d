"""A slow synthetic model for benchmarks: stacked convolutions with random weights, milliseconds per query, small as a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

SEED = 7
SHAPE = (1, 192, 192, 8)
LAYERS = 12
CHANNELS = 32


def write(path: Path) -> None:
    """Write the full-integer TFLite model; it computes nothing of meaning, so nothing but its speed may be reported."""
    tf.keras.utils.set_random_seed(SEED)
    image = tf.keras.Input(shape=SHAPE[1:], name="image")
    x = image
    for index in range(LAYERS):
        x = tf.keras.layers.Conv2D(CHANNELS, 3, padding="same", activation="relu", name=f"conv{index}")(x)
    x = tf.keras.layers.GlobalAveragePooling2D(name="pool")(x)
    model = tf.keras.Model(image, tf.keras.layers.Dense(10, name="logits")(x))
    generator = np.random.default_rng(SEED)

    def representative() -> Iterator[list[NDArray[np.float32]]]:
        for _ in range(8):
            yield [generator.random(SHAPE, dtype=np.float32)]

    function = tf.function(lambda image: {"logits": model(image, training=False)}).get_concrete_function(tf.TensorSpec(SHAPE, tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    path.write_bytes(converter.convert())
