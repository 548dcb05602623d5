from .alignps_head import AlignPSHead
from .rpn_head import AllRanksRPNHead

__all__ = ['AlignPSHead', 'AllRanksRPNHead']
