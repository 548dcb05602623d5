from .alignps_head import AlignPSHead
from .query_rpn_head import QueryRPNHead
from .rpn_head import AllRanksRPNHead

__all__ = ['AlignPSHead', 'AllRanksRPNHead', 'QueryRPNHead']
