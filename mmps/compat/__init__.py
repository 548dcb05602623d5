"""Repairs what is broken or missing upstream, and nothing else. Import it before MMDetection and MMRazor."""

from . import operators

operators.provide_operators()  # must come first: MMDetection and MMRazor import mmcv.ops
from . import upstream  # noqa: E402

__all__ = ['operators', 'upstream']
