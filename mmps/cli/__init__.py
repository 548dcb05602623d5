"""The command line. Nothing but the scripts in tools/ imports it."""

from .run import add_overrides, config_parser, few, load_config, run_tool

__all__ = ['add_overrides', 'config_parser', 'few', 'load_config', 'run_tool']
