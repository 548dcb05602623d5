# PKD (Cao et al., NeurIPS 2022): 1 - Pearson correlation of every channel. Its weight is the paper's, there of each FPN level.
_base_ = './feature.py'
distil = dict(distiller=dict(distill_losses=dict(loss_feature=dict(type='mmrazor.PKDLoss', resize_stu=False, loss_weight=6.0))))
