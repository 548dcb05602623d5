_base_ = '../seqnet/seqnet_r18-fpn_20e_cuhk-sysu.py'
model = dict(_delete_=True, type='CropReIDHead', detector=_base_.model)
