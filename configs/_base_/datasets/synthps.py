# SynthPS as tools/make_synthetic.py --layout cuhk-sysu --size mini writes it
_base_ = './cuhk_sysu.py'
data_root = 'data/synthps-mini'
img_scale = (336, 192)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadPersonAnnotations', with_bbox=True),
    dict(type='Resize', scale=img_scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackPersonSearchInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=img_scale, keep_ratio=True),
    dict(type='LoadPersonAnnotations', with_bbox=True),
    dict(type='PackPersonSearchInputs'),
]
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root=data_root, gallery_size=100, pipeline=test_pipeline))
test_dataloader = val_dataloader
