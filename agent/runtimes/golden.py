"""A small quantized model per runtime whose answer is remembered: does this device still compute as it did when it was registered?

64 × 16 weights over the whole range of int8 and inputs that make neighbouring products add up, so that the CPU's 8-bit multiply shows.
The answer is compared with this environment's own of before and with nothing else: that CPUs differ is no fault of a device.
``tests/unit/agent/build_selftest_models.py`` builds both.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Optional

import numpy as np

GOLDEN_ONNX = base64.b64decode(
    b"CAc6qQsKHwoBeAoCeHMKAnh6EgJ4cSIOUXVhbnRpemVMaW5lYXIKIgoCeHEKAnhzCgJ4ehICeGQiEERlcXVhbnRpemVMaW5lYXIKLgoBdwoCd3MKAnd6EgJ3"
    b"ZCIQRGVxdWFudGl6ZUxpbmVhcioLCgRheGlzGAGgAQIKEwoCeGQKAndkEgFwIgZNYXRNdWwKHwoBcAoCeXMKAnl6EgJwcSIOUXVhbnRpemVMaW5lYXIKIQoC"
    b"cHEKAnlzCgJ5ehIBeSIQRGVxdWFudGl6ZUxpbmVhchIGZ29sZGVuKgwQAUICeHNKBArXozwqCRACQgJ4ekoBgCqMCAhACBAQA0IBd0qACAAdxleMEdJLmAXe"
    b"P6R56jP5JL9ehRjLUpEM10adAOM68iu4Zf4fxFmKE9BNlgfcQesysWz3Jr1ggxrJVI8O1UjkOapz8C22Z/whwluIFc5P3UCjeuk0r271KLtigRzHVtZHnAHi"
    b"O6h17i+0afojwF3PTpUI20KhfOc2rXDzKrlkOKty8Sy3Zv0gw1qJFM9OlT+keeozsG32J7xhghvIVY5GnQDjOql07y61aPsiwVyHTZYH3EGie+g1rm/0Kbpj"
    b"AFSPDtVImwLhPKd27TCzavlbiBXOT5QJ2kOgfeY3rHHyYoEcx1aNENNKmQTfPqV462n6I8BdhhfMUZIL2EWef+SQDdZHnAHiO6h17i+0afojiRTPTpUI20Kh"
    b"fOc2rXDzKoIbyFWOD9RJmgPgPaZ37DH7IsFchxbNUJMK2USffuU49Cm6YwAdxleMEdJLmAXeP+0ws2r5JL9ehRjLUpEM10bmN6xx8iu4Zf4fxFmKE9BN3z6l"
    b"eOsysWz3Jr1ggxrJVCi7YoEcx1aNENNKmQTfPqUvtGn6I8BdhhfMUZIL2EWeNq1w8yq5ZP8exViLEtFMlz2md+wxsmv4Jb5fhBnKU5BEn37lOKty8Sy3Zv0g"
    b"w1qJS5gF3j+keeozsG32J7xhglKRDNdGnQDjOql07y61aPtZihPQTZYH3EGie+g1rm/0oH3mN6xx8iu4Zf4fxFmKE5kE3z6leOsysWz3Jr1ggxqSC9hFnn/k"
    b"Oapz8C22Z/whixLRTJcG3UCjeuk0r271KIQZylOQDdZHnAHiO6h17i/9IMNaiRTPTpUI20KhfOc29ie8YYIbyFWOD9RJmgPgPe8utWj7IsFchxbNUJMK2UQY"
    b"y1KRDNdGnQDjOql07y61H8RZihPQTZYH3EGie+g1ria9YIMayVSPDtVImwLhPKcttmf8IcJbiBXOT5QJ2kOgNK9u9Si7YoEcx1aNENNKmTuode4vtGn6I8Bd"
    b"hhfMUZJCoXznNq1w8yq5ZP8exViLSZoD4D2md+wxsmv4Jb5fhLBt9ie8YYIbyFWOD9RJmgOpdO8utWj7IsFchxbNUJMKonvoNa5v9Cm6YwAdxleMEZsC4Tyn"
    b"du0ws2r5JL9ehRiUCdpDoH3mN6xx8iu4Zf4fjRDTSpkE3z6leOsysWz3JoYXzFGSC9hFnn/kOapz8C3/HsVYixLRTJcG3UCjeuk0CNtCoXznNq1w8yq5ZP8e"
    b"xQ/USZoD4D2md+wxsmv4Jb4WzVCTCtlEn37lOKty8Sy3HcZXjBHSS5gF3j+keeozsCS/XoUYy1KRDNdGnQDjOqkruGX+H8RZihPQTZYH3EGiMrFs9ya9YIMa"
    b"yVSPDtVImzmqc/Attmf8IcJbiBXOT5QqSggQEAFCAndzSkAK1yM8WDk0PKabRDz0/VQ8QmBlPI/CdTxvEoM8lkOLPLx0kzzjpZs8CtejPDEIrDxYObQ8f2q8"
    b"PKabxDzNzMw8KhoIEBADQgJ3ekoQAAAAAAAAAAAAAAAAAAAAACoMEAFCAnlzSgQAAAA/KgkQAkICeXpKAYBaEwoBeBIOCgwIARIICgIIAQoCCEBiEwoBeRIO"
    b"CgwIARIICgIIAQoCCBBCBAoAEA0="
)

GOLDEN_TFLITE = base64.b64decode(
    b"GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAABAAAAAcAAAAIAAAAAMAAAADAAAAjAYAAHACAAAMAgAAAQAAADQAAAABAAAAEAAAAAwAEAAPAAAABAAIAAwA"
    b"AAAEAAAACQAAAAAAAAkMABQAEAAMAAgABAAMAAAAIAAAAAwAAAAQAAAAHAAAAAEAAAADAAAAAQAAAAAAAAABAAAAKAAAAAQAAABMAQAA8AAAAJQAAABEAAAA"
    b"AAAOABQAAAAQAAwACwAEAA4AAAAoAAAAAAAACAgAAAAMAAAAAQAAAAMAAAADAAAAAAAAAAEAAAACAAAAOPr//xL///8QAAAAPAAAAAAAAAkoAAAABP///wgA"
    b"AAAUAAAAAQAAAPv/////////AAAAAAEAAAAAAAA/AgAAAAEAAAAQAAAAAQAAAHkAAAC2////FAAAADwAAAACAAAAAAAAAigAAABU////CAAAABQAAAABAAAA"
    b"AAAAAAAAAAAAAAAAAQAAABe3UTkBAAAAEAAAAAEAAABiAA4AGAAUABMADAAIAAQADgAAABQAAAA8AAAAAQAAAAAAAAkkAAAArP///wgAAAAQAAAAAQAAAAAA"
    b"AAAAAAAAAQAAAArXIzwCAAAAEAAAAEAAAAABAAAAdwAOABQAEAAPAAAACAAEAA4AAAAcAAAARAAAAAAAAAkwAAAADAAMAAAAAAAIAAQADAAAAAgAAAAQAAAA"
    b"AQAAAAMAAAAAAAAAAQAAAArXozwCAAAAAQAAAEAAAAABAAAAeAAAAKb///8EAAAAQAAAAAz+//8x/v//Vv7//3v+//+g/v//xf7//+r+//8P////NP///1n/"
    b"//9+////o////8j////t////EgAAADcAAAAAAAAAAAAAAAAAAAAAAAYACAAEAAYAAAAEAAAAAAQAAAD58uvk3dbPOD9GTVRbYmmQiYL79O3m3ygvNj1ES1JZ"
    b"oJmSi4T99u8YHyYtNDtCSbCpopuUjYb/CA8WHSQrMjkdJCsyOUBHTquknZaPiIH6DRQbIikwNz67tK2mn5iRin0ECxIZICcuy8S9tq+ooZptdHsCCRAXHtvU"
    b"zca/uLGqxr+4saqjnJVyeQAHDhUcI9bPyMG6s6ylYmlwd34FDBPm39jRysO8tVJZYGdudXwD9u/o4drTzMVCSVBXXmVsc1deZWxzegEI8erj3NXOx8BHTlVc"
    b"Y2pxeIH68+zl3tfQNz5FTFNaYWiRioP89e7n4CcuNTxDSlFYoZqTjIX+9/CMhf738Oni2ywzOkFIT1ZdnJWOhwD58uscIyoxOD9GTaylnpeQiYL7DBMaISgv"
    b"Nj28ta6noJmSi3wDChEYHyYtERgfJi00O0K3sKmim5SNhgEIDxYdJCsyx8C5squknZZxeH8GDRQbItfQycK7tK2mYWhvdn0ECxLn4NnSy8S9ttLLxL22r6ih"
    b"Zm10ewIJEBfi29TNxr+4sVZdZGtyeQAH8uvk3dbPyMFGTVRbYmlwd4L79O3m39jRNj1ES1JZYGdLUllgZ251fP327+jh2tPMO0JJUFdeZWyNhv/48erj3Csy"
    b"OUBHTlVcnZaPiIH68+wbIikwNz5FTK2mn5iRioP8mJGKg/z17ucgJy41PENKUaihmpOMhf73EBceJSwzOkG4saqjnJWOhwAHDhUcIyoxyMG6s6ylnpdwd34F"
    b"DBMaIQUMExohKC82w7y1rqegmZJ1fAMKERgfJtPMxb63sKmiZWxzegEIDxbj3NXOx8C5slVcY2pxeH8G8+zl3tfQycLe19DJwru0rVphaG92fQQL7ufg2dLL"
    b"xL1KUVhfZm10e/738Oni29TNOkFIT1ZdZGuOhwD58uvk3SoxOD9GTVRbP0ZNVFtiaXCJgvv07ebf2C82PURLUllgmZKLhP327+gfJi00O0JJUKmim5SNhv/4"
    b"DxYdJCsyOUC5squknZaPiKSdlo+IgfrzFBsiKTA3PkW0raafmJGKgwQLEhkgJy41xL22r6ihmpN0ewIJEBceJdTNxr+4saqjZGtyeQAHDhV5AAcOFRwjKs/I"
    b"wbqzrKWeaXB3fgUMExrf2NHKw7y1rllgZ251fAMK7+jh2tPMxb5JUFdeZWxzev/48erj3NXO6uPc1c7HwLlOVVxjanF4f/rz7OXe19DJPkVMU1phaG+Kg/z1"
    b"7ufg2S41PENKUVhfmpOMhf738OkeJSwzOkFITzM6QUhPVl1klY6HAPny6+QjKjE4P0ZNVKWel5CJgvv0ExohKC82PUS1rqegmZKLhAMKERgfJi00xb63sKmi"
    b"m5QAAAAAAAAAAAQABAAEAAAA"
)

_INPUTS = 64
_ROUNDS = 4


def onnx_golden(package: Any) -> Optional[str]:
    """Return the SHA-256 (hex) of what ``package`` (onnxruntime) answers on one thread; None when it does not run, or not twice alike."""
    try:
        options = package.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = package.InferenceSession(GOLDEN_ONNX, options, providers=["CPUExecutionProvider"])
        return _stable(lambda sample: session.run(None, {"x": sample.astype(np.float32) * 0.02})[0])
    except Exception:  # noqa: BLE001 (whatever it raises, there is no answer; the self-test tells why)
        return None


def tflite_golden(module: Any) -> Optional[str]:
    """Return the SHA-256 (hex) of what ``module`` (an interpreter module) answers on one thread; None as above."""
    try:
        interpreter = module.Interpreter(model_content=GOLDEN_TFLITE, num_threads=1)
        interpreter.allocate_tensors()
        given, told = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

        def run(sample: Any) -> Any:
            interpreter.set_tensor(given, sample.astype(np.int8))
            interpreter.invoke()
            return interpreter.get_tensor(told)

        return _stable(run)
    except Exception:  # noqa: BLE001 (as above)
        return None


def _stable(run: Any) -> Optional[str]:
    digests = {_digest(run) for _ in range(2)}
    return digests.pop() if len(digests) == 1 else None


def _digest(run: Any) -> str:
    answers = hashlib.sha256()
    for number in range(_ROUNDS):
        # From small values to those at the end of the range.
        sample = ((np.arange(_INPUTS, dtype=np.int64) * (11 + number)) % 32 + 32 * number).reshape(1, _INPUTS)
        answers.update(np.ascontiguousarray(run(sample)).tobytes())
    return answers.hexdigest()
