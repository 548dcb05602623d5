# CWD (Shu et al., ICCV 2021): KL divergence between every channel's softmax over places. Temperature and weight are those that
# MMRazor's detection configs have for each FPN level.
_base_ = './feature.py'
distil = dict(
    distiller=dict(distill_losses=dict(loss_feature=dict(type='mmrazor.ChannelWiseDivergence', tau=1.0, loss_weight=10.0)))
)
