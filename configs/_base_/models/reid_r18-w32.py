# ResNet-18 at half its width on small crops, for two CPU cores; trained from scratch, with OIM as oim_r18-w8_fpn.py has it.
_base_ = './reid_r50.py'
model = dict(
    crop_size=(96, 48),
    erasing=0.0,  # a thousand steps from scratch are too few for it: 23.9 instead of 52.5 mAP
    reid=dict(
        backbone=dict(depth=18, base_channels=32, init_cfg=dict(_delete_=True, type='Kaiming', layer='Conv2d')),
        in_channels=256,
        out_channels=128,
    ),
    reid_loss=dict(embed_dims=128, queue_size=200, momentum=0.9, scale=16.0),
)
