"""A network for any style with weights of a likely size, for tests that need no published ones."""

from __future__ import annotations

from streamstyle.nets.arbitrary import LAYERS, VECTOR, ArbitraryNet


def untrained_net() -> ArbitraryNet:
    """Weights by torch's random numbers; layers without a norm have a bias that no vector moves."""
    net = ArbitraryNet()
    for layer, weight, gamma, beta in zip(LAYERS, net.convolution, net.gamma, net.beta, strict=True):
        weight.normal_(0, (2 / weight[0].numel()) ** 0.5)
        beta.normal_(0, 0.03)
        if layer.norm:
            gamma[:, :VECTOR].normal_(0, 0.03)
        else:
            beta[:, :VECTOR] = 0
    return net
