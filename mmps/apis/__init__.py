from .run import config_parser, load_config, run_tool

__all__ = ['config_parser', 'load_config', 'run_tool']
