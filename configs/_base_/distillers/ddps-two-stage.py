# DDPS for two-stage detectors with an FPN, the paper's: as in the authors' code, its FGD has the weights of fgd-two-stage.py.
_base_ = './ddps.py'
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
