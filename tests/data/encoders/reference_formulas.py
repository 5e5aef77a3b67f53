"""What the makers of the tables beside this file share: the weights and images of the fixtures' formulas
(segcore/testing/reference_values.hpp), and the columns that describe a state dict and a map.
"""

import hashlib
import re

import numpy as np
import torch


def hash64(name):
    h = 0xCBF29CE484222325
    for c in name.encode():
        h = (h ^ c) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return h


def uniform(name, n):
    with np.errstate(over="ignore"):
        z = np.uint64(hash64(name)) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2**24


def fill(net, gain):
    for name, tensor in net.state_dict().items():
        if not tensor.is_floating_point():
            continue
        s = 2 * uniform(name, tensor.numel()) - 1
        if name.endswith("running_var"):
            value = 1 + 0.25 * s
        elif name.endswith("running_mean"):
            value = 0.1 * s
        elif tensor.dim() >= 2 and tensor.shape[0] == 1 and not name.endswith("weight"):
            value = 0.5 * s
        elif tensor.dim() >= 2:
            value = s * np.sqrt(3 * gain / (tensor.numel() // tensor.shape[0]))
        elif name.endswith("weight"):
            value = 1 + 0.1 * s
        else:
            value = 0.1 * s
        tensor.copy_(torch.from_numpy(value.astype(np.float32)).view(tensor.shape))


def image_of(shape):
    """The image of the fixtures, from -2 to 2, in single precision."""
    values = 2 * (2 * uniform("image", int(np.prod(shape))) - 1)
    return torch.from_numpy(values.astype(np.float32)).view(shape)


def tensor_columns(net, classifier="$^"):
    """The number of parameters and the SHA-256 of the state dict, without the names that match the classifier's."""
    rows = sorted(
        "%s\t%s\t%s" % (k, "x".join(map(str, v.shape)), str(v.dtype).replace("torch.", ""))
        for k, v in net.state_dict().items()
        if not re.match(classifier, k)
    )
    parameters = sum(p.numel() for k, p in net.named_parameters() if not re.match(classifier, k))
    return parameters, hashlib.sha256("\n".join(rows).encode()).hexdigest()


def map_columns(m):
    """The shape, mean, standard deviation, first and last value of a map."""
    flat = m.flatten()
    numbers = ["%.10g" % v for v in (m.mean(), m.std(correction=0), flat[0], flat[-1])]
    return ["x".join(map(str, m.shape)), *numbers]
