"""The one network of the zoo: a small convolutional classifier of 8x8 images, and its training with fixed seeds."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from data import Split

SEED = 20240611
EPOCHS = 6
BATCH = 32
LEARNING_RATE = 2e-3
CHANNELS = 128
BLOCKS = 5

#: Pixels reach 16; every float variant takes them scaled to 0..1.
PIXEL_MAX = 16.0


def build() -> tf.keras.Model:
    """Return the untrained network: input (N, 8, 8, 1) float32 in 0..1, output (N, 10) logits.

    A depthwise-separable network, as keyword-spotting and mobile vision networks are: its per-channel ranges differ, so quantization has
    something to lose.
    """
    layers = tf.keras.layers
    image = tf.keras.Input(shape=(8, 8, 1), name="image")
    x = _normalized(layers.Conv2D(CHANNELS, 3, padding="same", use_bias=False, name="conv"), image)
    for index in range(BLOCKS):
        x = _normalized(layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"depthwise{index}"), x)
        x = _normalized(layers.Conv2D(CHANNELS, 1, use_bias=False, name=f"pointwise{index}"), x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return tf.keras.Model(image, layers.Dense(10, name="logits")(x), name="digits_cnn")


def _normalized(layer: tf.keras.layers.Layer, x: Any) -> Any:
    """Batch normalization and ReLU behind a layer; the converters fold the normalization into its weights."""
    return tf.keras.layers.ReLU()(tf.keras.layers.BatchNormalization(momentum=0.9)(layer(x)))


def train(split: Split) -> tf.keras.Model:
    """Train with fixed seeds, deterministic operators and one thread; the same machine and versions give the same bits."""
    tf.keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = build()
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    steps = EPOCHS * -(-len(split.y) // BATCH)
    schedule = tf.keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    model.compile(optimizer=tf.keras.optimizers.Adam(schedule), loss=loss)
    model.fit(split.x / PIXEL_MAX, split.y, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    return model
