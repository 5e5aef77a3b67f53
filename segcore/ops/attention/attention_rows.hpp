/// What attention makes of rows of scores between its products.
#pragma once
#include <cstdint>

namespace seg {

/// Products of some queries with some keys.
struct ScoreBlock {
  float* scores;  ///< [rows, columns], rows `step` apart, each with room for a multiple of 16
  int64_t step, rows, columns;
  float scale;
  const float* bias;  ///< [rows, columns], rows bias_step apart; or null
  int64_t bias_step;
};

/// Of each query, over the keys so far.
struct SoftmaxState {
  float* most;    ///< the largest score; -inf before the first
  float* sum;     ///< of e^(score - most); zero before the first
  float* factor;  ///< what results of the keys before have to be multiplied by
};

struct SoftmaxBlock {
  ScoreBlock block;
  SoftmaxState state;
};

/// Scores become e^(score * scale + bias - most).
void exponentiate_scores(const SoftmaxBlock& a);

struct SlopeBlock {
  ScoreBlock block;
  float* slopes;             ///< as the scores: gradients of probabilities
  const float* log_sums;     ///< [rows], log of the sum of e^score over all keys
  const float* mean_slopes;  ///< [rows], of all keys, by their probabilities
  float* by_bias;            ///< [rows, columns], rows by_bias_step apart; or null
  int64_t by_bias_step;
  bool add;  ///< to by_bias, else it is overwritten
};

/// Scores become probabilities, and slopes the gradients of products.
void differentiate_scores(const SlopeBlock& a);

/// Rows `step` apart, of a multiple of 16 columns.
struct ScaledRows {
  float* x;
  int64_t step, rows, columns;
  const float* factors;  ///< [rows]
};

/// Multiplies each row by its factor.
void scale_rows(const ScaledRows& a);

/// As ScaledRows.
struct RowProducts {
  const float* x;
  int64_t x_step;
  const float* y;
  int64_t y_step;
  int64_t rows, columns;
  float* sums;  ///< [rows]
};

/// Sums of x times y over each row.
void multiply_rows(const RowProducts& a);

struct TurnedRows {
  const float* from;  ///< [rows, depth], rows `step` apart; depth is a multiple of 8
  int64_t step, rows, depth;
  float* to;  ///< [panels, depth, kTileColumns], zero beyond the last row
};

/// Rows in panels for products with their transpose.
void turn_rows(const TurnedRows& a);

}  // namespace seg
