# Any MOT15/16/17/20 folder: <data_root>/train/<sequence>/{img1,gt/gt.txt,seqinfo.ini}
_base_ = './cuhk_sysu.py'
dataset_type = 'MOTChallenge'
data_root = 'data/mot17'
train_dataloader = dict(dataset=dict(type=dataset_type, data_root=data_root))
val_dataloader = dict(
    dataset=dict(_delete_=True, type=dataset_type, data_root=data_root, test_mode=True, pipeline={{_base_.test_pipeline}})
)
test_dataloader = val_dataloader
