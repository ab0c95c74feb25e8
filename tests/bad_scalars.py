"""Bad input for scalars, matrices and Gaussians: four tables in one, and what is absent."""

import bad_calculus
import bad_fits
import bad_games
import bad_gaussians

TABLE = bad_calculus.TABLE | bad_games.TABLE | bad_gaussians.TABLE | bad_fits.TABLE
ABSENT = {}
