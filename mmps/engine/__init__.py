from . import hooks, sharding

__all__ = ['hooks', 'sharding']
