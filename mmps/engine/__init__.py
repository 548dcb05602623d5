from . import hooks, query_search_loop, sharding

__all__ = ['hooks', 'query_search_loop', 'sharding']
