_base_ = '../seqnet/seqnet_r50-c4_20e_prw.py'
model = dict(_delete_=True, type='CropReIDHead', detector=_base_.model)
