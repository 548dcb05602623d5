from .run import config_parser, few, load_config, run_tool

__all__ = ['config_parser', 'few', 'load_config', 'run_tool']
