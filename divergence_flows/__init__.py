r"""A divergence gives a velocity; the velocity moves mass.

p is the target, q the model or the particles, r = p/q their ratio, u = log r.

A convex `f` defines a divergence F(q) = E_q[f(r)]; an increasing `h` defines a MonoFlow
dx = grad h(log r) dt. They are two names for one thing, h'(log r) = r^2 f''(r):

    h = df.f_to_h(f);  f = df.h_to_f(h)              # any f, any h
    df.divergences.jensen_shannon.h                  # closed forms, by name

A discriminator trained on max E_p[phi(d)] + E_q[psi(d)] yields r = T(d) = -psi'(d)/phi'(d), so
every divergence GAN is a triple:

    gan = df.GAN(phi, psi, h_t)                      # or df.gans.vanilla(), df.gans.f_gan(div), ...
    gan.descends(r), gan.measures(r)                 # what it really minimises, what it measures

With a ratio, a field; with a field, a flow:

    field = df.velocity(h, log_r)                    # log_r(t, x, args), one point
    solution = df.integrate(field, x0, ts)           # diffrax underneath, any solver
    df.dissipation(h, u, grad_u)                     # how fast KL falls

With samples only, a learned ratio moves them:

    moved, info = df.transport(gan, discriminator, xs_q, xs_p, key=key)

or one fitted to the cloud anew wherever it is, which is a field like any other:

    fit = functools.partial(df.rff_log_ratio, xs_p=xs_p, key=key)
    solution = df.integrate(df.cloud_velocity(h, fit, block=8192), xs_q, ts)

The same ratio at all times, d(t, x), is a field that moves new particles too:

    state, info = df.train_flow_ratio(gan, discriminator, xs_q, xs_p, horizon=3.0, key=key)
    field = df.velocity(gan.h, df.flow_log_ratio(gan, state.ema))

A generator trained by the same game, one seed or a vmapped axis of them:

    state, info = df.train_gan(gan, discriminator, generator, xs_p, latent=2, key=key)
    keys = df.over_devices(jax.random.split(key, 64))  # that axis on all devices there are

Or a generator that follows two scores, a teacher's and its own, by any divergence:

    state, info = df.train_distilled(h, score_p, generator, score_q, latent=2, key=key)

Pictures of it all, axes in and axes out:

    df.plot.before_after(xs_q, moved, xs_p)
    df.plot.curves(gan)                              # f and h

Every function takes and returns arrays, pytrees and callables, and works under jit, vmap, grad
and scan. Shapes and dtypes are checked at every call; JAXTYPING_DISABLE=1 turns that off.
"""

import importlib.metadata as _metadata

from jaxtyping import install_import_hook as _install_import_hook

from . import _hook as _hook

with _install_import_hook("divergence_flows", "divergence_flows._hook.typechecked"):
    # f and h, (phi, psi) and T; tables of both; geometry; networks
    from .calculus import (
        conjugate as conjugate,
        f_to_h as f_to_h,
        first_variation as first_variation,
        h_to_f as h_to_f,
        inverse_log_ratio as inverse_log_ratio,
        lift as lift,
        log_ratio as log_ratio,
        lower as lower,
        ratio as ratio,
    )
    from . import bures as bures, divergences as divergences, gans as gans, networks as networks
    from .divergences import Divergence as Divergence
    from .gans import GAN as GAN
    from .gans._ipm import IPM as IPM
    from .gans._pair import PairGAN as PairGAN
    from .gans._losses import (
        discriminator_loss as discriminator_loss,
        distillation_loss as distillation_loss,
        generator_loss as generator_loss,
    )
    from .gans._potentials import (
        flow_log_ratio as flow_log_ratio,
        learned_log_ratio as learned_log_ratio,
        witness as witness,
    )

    # a ratio gives a velocity, a velocity a flow
    from .flows import (
        curve_length as curve_length,
        integrate as integrate,
        langevin as langevin,
        coupling as coupling,
        displacement as displacement,
        wasserstein2 as wasserstein2,
        settle as settle,
        cloud_velocity as cloud_velocity,
        dissipation as dissipation,
        gradient_flow as gradient_flow,
        heat_flow_divergence as heat_flow_divergence,
        score_velocity as score_velocity,
        velocity as velocity,
        with_log_prob as with_log_prob,
    )

    # ratios and witnesses of samples, without training
    from .ratios import (
        median_bandwidth as median_bandwidth,
        ratio_bandwidth as ratio_bandwidth,
        ratio_check as ratio_check,
        RatioCheck as RatioCheck,
        drift_field as drift_field,
        kde_log_prob as kde_log_prob,
        mmd_witness as mmd_witness,
        ulsif_ratio as ulsif_ratio,
        rff_log_ratio as rff_log_ratio,
    )

    # Gaussians and mixtures
    from .gaussians import (
        bures_field as bures_field,
        fisher_rao_field as fisher_rao_field,
        forward_backward_step as forward_backward_step,
        gaussian_field as gaussian_field,
        Gaussian as Gaussian,
        gaussian_kl as gaussian_kl,
        LowRankGaussian as LowRankGaussian,
        Mixture as Mixture,
        mixture_field as mixture_field,
        cubature as cubature,
        gauss_hermite as gauss_hermite,
        Nodes as Nodes,
        normal_nodes as normal_nodes,
        sobol_nodes as sobol_nodes,
        trapezoid as trapezoid,
        stl_loss as stl_loss,
    )
    from .estimates import (
        divergence_between as divergence_between,
        DivergenceEstimate as DivergenceEstimate,
        mutual_information as mutual_information,
        conditional_ratio as conditional_ratio,
        ConditionalRatio as ConditionalRatio,
        log_posterior as log_posterior,
    )
    from .fits import (
        FitInfo as FitInfo,
        fit_gaussian as fit_gaussian,
        fit_mixture as fit_mixture,
        MixtureInfo as MixtureInfo,
    )

    # training, and long runs
    from .training import (
        TransportState as TransportState,
        flow_ratio_step as flow_ratio_step,
        FlowRatioState as FlowRatioState,
        gan_step as gan_step,
        GANState as GANState,
        gradient_penalty as gradient_penalty,
        particle_step as particle_step,
        ratio_step as ratio_step,
        RatioState as RatioState,
        FlowRatioInfo as FlowRatioInfo,
        train_flow_ratio as train_flow_ratio,
        train_gan as train_gan,
        TrainInfo as TrainInfo,
        transport as transport,
        TransportInfo as TransportInfo,
    )
    from .distillation import (
        denoising_loss as denoising_loss,
        distilled_step as distilled_step,
        DistilledInfo as DistilledInfo,
        DistilledState as DistilledState,
        noised_ratio_step as noised_ratio_step,
        train_distilled as train_distilled,
        variance_exploding as variance_exploding,
        variance_preserving as variance_preserving,
    )
    from .runs import (
        over_devices as over_devices,
        RunDiverged as RunDiverged,
    )

    # pictures, by matplotlib once a function is called
    from . import plot as plot

# The hook imports jaxtyping into every module: no public name of ours.
for _room in (bures, divergences, gans, networks, plot):
    vars(_room).pop("jaxtyping", None)

__version__ = _metadata.version("divergence_flows")
