from .oim import OIMLoss
from .triplet import TripletLoss

__all__ = ['OIMLoss', 'TripletLoss']
