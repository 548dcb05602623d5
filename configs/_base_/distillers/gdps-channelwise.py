# GDPS with another feature-based part: channel-wise distillation (as in cwd.py) in place of the squared differences.
_base_ = './gdps.py'
distil = dict(
    distiller=dict(
        distill_losses=dict(
            loss_feature=dict(_delete_=True, type='mmrazor.ChannelWiseDivergence', tau=1.0, loss_weight=10.0, per_level=True)
        ),
        loss_forward_mappings=dict(
            loss_feature=dict(
                _delete_=True,
                preds_S=dict(from_student=True, recorder='feats', connector='neck'),
                preds_T=dict(from_student=False, recorder='feats'),
            )
        ),
    )
)
