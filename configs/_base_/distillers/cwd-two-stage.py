# CWD in MMRazor's config for Faster R-CNN adds up five maps of an FPN, each with temperature 1 and weight 10. Here the loss is
# their mean: 5 x 10.
_base_ = './cwd.py'
distil = dict(distiller=dict(distill_losses=dict(loss_feature=dict(tau=1.0, loss_weight=50.0))))
