# MGD with the authors' masked fraction and weight, 5e-7, for Faster R-CNN. Their code adds up the maps of an FPN. Here the loss
# is the mean over five maps, so the weight is 5 x 5e-7.
_base_ = './mgd.py'
distil = dict(
    distiller=dict(
        teacher_recorders=dict(feats=dict(standardised=False)),
        connectors=dict(neck=dict(lambda_mgd=0.45)),
        distill_losses=dict(loss_feature=dict(alpha_mgd=2.5e-6)),
    )
)
