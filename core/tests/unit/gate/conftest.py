"""Declarations that the tests of the gate share."""

from modelexport.contract import TensorSpec, unify_dims


def specs_of(*declarations):
    return unify_dims([TensorSpec.parse(text) for text in declarations])


IMAGE = specs_of("x:float32[batch=1..8,3,h=4..20,w=4..20]")
TEXT = specs_of(
    "ids:int64[batch=1..4,seq=1..12]=5..30", "mask:int64[batch,seq]=mask", "pixels:uint8[batch,2]=0..255"
)
