# SynthPS as tools/make_synthetic.py --layout cuhk-sysu --size mini --style classic writes it
_base_ = './cuhk_sysu.py'
data_root = 'data/synthps-mini'
img_scale = (336, 192)
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[2].scale = test_pipeline[1].scale = img_scale
train_dataloader = dict(batch_size=4, num_workers=0, dataset=dict(data_root=data_root, pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root, gallery_size=100, pipeline=test_pipeline)
)
test_dataloader = val_dataloader
