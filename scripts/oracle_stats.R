# Reference values from R for crates/chestnut-stats/tests/oracle.json. Called by oracle_stats.py:
#   Rscript scripts/oracle_stats.R CASES.json RESULTS.json
# Needs R with pROC (Debian: r-cran-proc) and jsonlite. Reads cases with ties and calibration cases,
# adds pROC's aSAH data (Turck et al. 2010) as ranks only: the raw table is GPL and is not copied.
suppressMessages({ library(pROC); library(jsonlite) })

arguments <- commandArgs(trailingOnly = TRUE)
input <- fromJSON(arguments[1], simplifyVector = TRUE, simplifyDataFrame = FALSE)
bits <- function(text) as.integer(strsplit(text, "")[[1]])
curve <- function(truth, score)
  roc(truth, score, levels = c(0, 1), direction = "<", quiet = TRUE)

single <- function(r) {
  a <- as.numeric(auc(r)); v <- var(r, method = "delong")
  ci <- as.numeric(ci.auc(r, method = "delong"))
  logit <- plogis(qlogis(a) + c(-1, 1) * qnorm(0.975) * sqrt(v) / (a * (1 - a)))
  list(auc = a, variance = v, low = ci[1], high = ci[3], logit_low = logit[1], logit_high = logit[2],
       youden = max(r$sensitivities + r$specificities - 1))
}
pair <- function(r1, r2) {
  t <- roc.test(r1, r2, method = "delong", paired = TRUE)
  list(z = as.numeric(t$statistic), p = as.numeric(t$p.value),
       low = t$conf.int[1], high = t$conf.int[2])
}

data(aSAH)
truth <- as.integer(aSAH$outcome == "Poor")
raw <- list(wfns = as.integer(aSAH$wfns), s100b = aSAH$s100b, ndka = aSAH$ndka)
curves <- lapply(raw, function(x) curve(truth, x))   # on the raw values, not on the ranks
names_of_pairs <- list(c("wfns", "s100b"), c("wfns", "ndka"), c("s100b", "ndka"))
set.seed(1)
boot <- as.numeric(ci.auc(curves$s100b, method = "bootstrap", boot.n = 20000,
                          boot.stratified = FALSE, progress = "none"))
asah <- list(
  note = paste("Data aSAH of the R package pROC (Turck et al. 2010). Scores are stored as twice their",
               "midranks, which is all that AUC and DeLong depend on; truth 1 = outcome Poor."),
  truth = paste(truth, collapse = ""),
  scores = lapply(raw, function(x) as.integer(2 * rank(x))),
  single = lapply(curves, single),
  pairs = lapply(names_of_pairs, function(n)
    c(list(a = n[1], b = n[2]), pair(curves[[n[1]]], curves[[n[2]]]))),
  bootstrap = list(score = "s100b", resamples = 20000, low = boot[1], high = boot[3]))

ties <- lapply(input$ties, function(case) {
  t <- bits(case$truth)
  ra <- curve(t, case$a); rb <- curve(t, case$b)
  list(a = single(ra), b = single(rb), pair = pair(ra, rb))
})

calibration <- lapply(input$calibration, function(case) {
  t <- bits(case$truth); x <- qlogis(case$p)
  strict <- glm.control(epsilon = 1e-15, maxit = 200)
  line <- suppressWarnings(glm(t ~ x, family = binomial, control = strict))
  large <- suppressWarnings(glm(t ~ offset(x), family = binomial, control = strict))
  list(intercept = coef(line)[[1]], slope = coef(line)[[2]],
       slope_se = sqrt(vcov(line)[2, 2]),
       in_the_large = coef(large)[[1]], in_the_large_se = sqrt(vcov(large)[1, 1]))
})

write(toJSON(list(versions = list(R = R.version.string, pROC = as.character(packageVersion("pROC"))),
                  asah = asah, ties = ties, calibration = calibration),
             auto_unbox = TRUE, digits = I(17)), arguments[2])
