"""Mixed precision: 16-bit numbers where they do no harm, and what keeps training stable in FP16.

tensor_core      FP16 and BF16 products by rounding, on a processor that has none
master_weights   FP32 copies that the optimizer steps on
grad_stats       which gradients a format flushes to zero, by layer
unscale          divide all gradients by the loss scale and find inf and NaN
loss_scale       the rule by which the loss scale finds its value
grad_scaler      scale, unscale, step, update in the right order: equal to torch.amp.GradScaler
autocast_policy  which operation runs in which dtype, as a table per device
autocast         the policy applied to every operation of a block, equal to torch.autocast
recorder         which operation ran in which dtype
"""
