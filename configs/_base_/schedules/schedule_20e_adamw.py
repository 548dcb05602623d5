# schedule_20e.py for Swin Transformers, which are not trained with SGD: optimizer, learning rate and weight decay are those of
# Swin's own detectors. Position biases and norms do not decay, as there.
_base_ = './schedule_20e.py'
no_decay = dict(decay_mult=0.0)
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=0.0001, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0, custom_keys=dict(absolute_pos_embed=no_decay, relative_position_bias_table=no_decay)
    ),
)
