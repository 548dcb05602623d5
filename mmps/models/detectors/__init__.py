from .alignps import AlignPS
from .crop_reid import CropReID, ReIDNetwork
from .qeeps import QEEPS
from .two_stage import TwoStagePersonSearch

__all__ = ['QEEPS', 'AlignPS', 'CropReID', 'ReIDNetwork', 'TwoStagePersonSearch']
