# DDPS with PKD in the place of FGD on the maps, weighted as in pkd-two-stage.py.
_base_ = './ddps.py'
distil = dict(
    distiller=dict(
        distill_losses=dict(
            loss_feature=dict(_delete_=True, type='mmrazor.PKDLoss', resize_stu=False, loss_weight=30.0, per_level=True)
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
