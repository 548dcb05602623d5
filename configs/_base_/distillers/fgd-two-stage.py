# FGD with the authors' temperature and weights for Faster R-CNN. Their code adds up the maps of an FPN. Here the loss is the
# mean over five maps, so it has weight 5.
_base_ = './fgd.py'
distil = dict(
    distiller=dict(
        distill_losses=dict(
            loss_feature=dict(
                temperature=0.5,
                person_weight=5e-5,
                background_weight=2.5e-5,
                attention_weight=5e-5,
                relation_weight=5e-7,
                standardised=False,
                loss_weight=5.0,
            )
        )
    )
)
