# The forward pass of a GPT in 32-bit floats, in numpy: what the proof of the
# same pass is compared with. bench_blas.go says what it reads and prints.
import ctypes
import json
import sys
import time

import numpy as np

layers, heads, width, vocab, context, rows = (int(n) for n in np.frombuffer(sys.stdin.buffer.read(24), "<i4"))


def read(*shape):
    n = int(np.prod(shape))
    return np.frombuffer(sys.stdin.buffer.read(4 * n), "<f4").reshape(shape)


# Factors that the exact program has between its products go into the weights.
NORM = np.float32(2**10)  # a norm's mean square is the square of this
SCORE = np.float32(2**-20)  # what a score is in units of
GELU_IN, GELU_OUT = np.float32(2**-10), np.float32(2**9)

tokens = np.frombuffer(sys.stdin.buffer.read(4 * rows), "<i4")
embedding, positions = read(vocab, width), read(context, width)
blocks = []
for _ in range(layers):
    q, k, v, o = (read(width, width) for _ in range(4))
    up, down = read(width, 4 * width), read(4 * width, width)
    blocks.append((np.concatenate([q * (NORM * SCORE), k * NORM, v * NORM], axis=1), o, up * (NORM * GELU_IN), down * (GELU_OUT / 2)))
head = read(width, vocab) * NORM
later = np.triu(np.full((rows, rows), -np.inf, "f"), 1)


def norm(x):
    x = x - x.mean(axis=1, keepdims=True)
    return x / np.sqrt(np.einsum("ij,ij->i", x, x) / np.float32(width))[:, None]


def gelu(x):
    """Twice the activation, by tanh as in nanoGPT."""
    y = x * x
    y *= np.float32(0.044715)
    y += 1
    y *= x
    y *= np.float32((2 / np.pi) ** 0.5)
    np.tanh(y, out=y)
    y += 1
    y *= x
    return y


def forward():
    x = embedding[tokens] + positions[:rows]
    for qkv, o, up, down in blocks:
        qkv = norm(x) @ qkv
        np.clip(qkv[:, width:], -2048, 2047, out=qkv[:, width:])  # as keys and values of 12 bits do
        q, k, v = qkv.reshape(rows, 3, heads, -1).transpose(1, 2, 0, 3)
        s = q @ k.transpose(0, 2, 1)
        s += later
        s -= s.max(axis=2, keepdims=True)
        np.exp(s, out=s)
        a = (s @ v) / s.sum(axis=2, keepdims=True)
        x = x + a.transpose(1, 0, 2).reshape(rows, width) @ o
        h = norm(x) @ up
        x += gelu(h) @ down
    return norm(x) @ head


def blas():
    """The library that multiplies matrices, by what is mapped into this process."""
    for line in open("/proc/self/maps"):
        path = line.split()[-1]
        if "openblas" in path and ".so" in path:
            lib = ctypes.CDLL(path)
            for f in "openblas_get_corename", "scipy_openblas_get_corename64_", "openblas_get_corename64_":
                if hasattr(lib, f):
                    getattr(lib, f).restype = ctypes.c_char_p
                    return "OpenBLAS " + getattr(lib, f)().decode()
    return ""


def measure(passes):
    start = time.process_time()
    for _ in range(passes):
        forward()
    return (time.process_time() - start) / passes


logits = forward().ravel().tolist()
measure(100)  # warm
print(json.dumps({"blas": blas(), "logits": logits}), flush=True)
for _ in sys.stdin:
    print(json.dumps({"cpu_s": sorted(measure(5) for _ in range(21))[10]}), flush=True)
