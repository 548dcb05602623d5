# PKD for Faster R-CNN adds up the maps of an FPN, each with weight 6. Here the loss is the mean over five maps: 5 x 6.
_base_ = './pkd.py'
distil = dict(distiller=dict(distill_losses=dict(loss_feature=dict(loss_weight=30.0))))
