# oim_r18-w8-fpn_500it_mot on a sample of a few consecutive frames: queries and galleries may be one frame apart.
_base_ = './oim_r18-w8-fpn_500it_mot.py'
data_root = 'data/mot17-mini'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root, frame_gap=1))
test_dataloader = val_dataloader
