# For small networks that start from ImageNet weights: AdamW, a short warm-up, then a cosine over three epochs.
_base_ = './schedule_10e_scratch.py'
max_epochs = 3
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = max_epochs
optim_wrapper = dict(optimizer=dict(lr=0.001))
