# The student of the demo.
_base_ = './oim_r18-w8-fpn_10e_synthps-mini.py'
max_epochs = 5
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = max_epochs
