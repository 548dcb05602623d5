"""A web page on which a person is searched in a gallery: ``mmps page``. Needs NiceGUI, which the extra ``page`` installs."""
