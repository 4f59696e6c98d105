"""Mixed precision: cheap numbers where they do no harm, and what keeps training alive in FP16.

autocast_policy  which operation runs in which dtype, as a table per device
autocast         the policy applied to every operation of a block, equal to torch.autocast
recorder         which operation ran in which dtype
grad_scaler      static and dynamic loss scaling, equal to torch.amp.GradScaler
"""
