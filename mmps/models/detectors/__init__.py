from .alignps import AlignPS
from .crop_reid import CropReID, ReIDNetwork
from .two_stage import TwoStagePersonSearch

__all__ = ['AlignPS', 'CropReID', 'ReIDNetwork', 'TwoStagePersonSearch']
