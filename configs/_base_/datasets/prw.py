_base_ = './cuhk_sysu.py'
dataset_type = 'PRW'
data_root = 'data/prw'
train_dataloader = dict(dataset=dict(type=dataset_type, data_root=data_root))
val_dataloader = dict(
    dataset=dict(_delete_=True, type=dataset_type, data_root=data_root, test_mode=True, pipeline={{_base_.test_pipeline}})
)
test_dataloader = val_dataloader
