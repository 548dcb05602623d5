"""What is broken or missing upstream, and nothing else. Importing it makes the other imports work."""

from . import operators

operators.provide_operators()  # first: MMDetection and MMRazor import mmcv.ops
from . import upstream  # noqa: E402

__all__ = ['operators', 'upstream']
