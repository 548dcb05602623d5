# HKD with the constants of the published command for PRW.
_base_ = './hkd.py'
distil = dict(
    distiller=dict(
        distill_losses=dict(
            loss_response=dict(symmetric=False, loss_weight=3.0), loss_relation=dict(temperature=2.0, loss_weight=150.0)
        )
    )
)
