# GDPS's feature-based knowledge alone.
_base_ = './gdps.py'
losses, mappings = _base_.distil.distiller.distill_losses, _base_.distil.distiller.loss_forward_mappings
distil = dict(
    distiller=dict(
        distill_losses=dict(_delete_=True, loss_feature=losses.loss_feature),
        loss_forward_mappings=dict(_delete_=True, loss_feature=mappings.loss_feature),
    )
)
