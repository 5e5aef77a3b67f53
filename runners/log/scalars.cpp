#include "runners/log/scalars.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>

#include <algorithm>

#include "registry/error.hpp"

namespace seg {
namespace {

/// A run without a LoggerHook reads no value for thousands of steps; each would hold device memory.
constexpr size_t kMostPending = 256;

}  // namespace

const double* find_scalar(const Scalars& scalars, std::string_view name) {
  for (const auto& [key, value] : scalars) {
    if (key == name) return &value;
  }
  return nullptr;
}

ScalarHistory::Entry& ScalarHistory::entry(std::string_view name) {
  for (Entry& e : entries_) {
    if (e.name == name) return e;
  }
  entries_.push_back({std::string(name), {}});
  return entries_.back();
}

void ScalarHistory::push(Entry& e, double value) {
  e.values.push_back(value);
  while (length_ > 0 && e.values.size() > length_) e.values.pop_front();
}

void ScalarHistory::push_own(Entry& e, double value) {
  push(e, value);
  e.own = std::min(e.own + 1, e.values.size());
}

void ScalarHistory::record(std::string_view name, double value) { push(entry(name), value); }

void ScalarHistory::record(std::string_view name, const at::Tensor& value) {
  if (value.is_cpu()) {
    push_own(entry(name), value.item<double>());
    return;
  }
  const auto place = static_cast<size_t>(&entry(name) - entries_.data());
  pending_.emplace_back(place, value.detach().reshape({}));
  if (pending_.size() >= kMostPending) flush();
}

void ScalarHistory::flush() {
  if (pending_.empty()) return;
  std::vector<at::Tensor> values;
  for (const auto& [place, value] : pending_) values.push_back(value.to(at::kDouble));
  const at::Tensor fetched = at::stack(values).cpu();
  const double* data = fetched.const_data_ptr<double>();
  for (size_t i = 0; i < pending_.size(); ++i) push_own(entries_[pending_[i].first], data[i]);
  pending_.clear();
}

void ScalarHistory::average_over(Communicator& processes) {
  if (processes.size() == 1) return;
  flush();
  std::vector<double*> own;
  for (Entry& e : entries_) {
    for (size_t i = e.values.size() - e.own; i < e.values.size(); ++i) own.push_back(&e.values[i]);
    e.own = 0;
  }
  if (own.empty()) return;
  at::Tensor values = at::empty({static_cast<int64_t>(own.size())}, at::kDouble);
  auto* data = values.mutable_data_ptr<double>();
  for (size_t i = 0; i < own.size(); ++i) data[i] = *own[i];
  processes.all_reduce_sum_(values);
  data = values.mutable_data_ptr<double>();
  for (size_t i = 0; i < own.size(); ++i) *own[i] = data[i] / processes.size();
}

std::vector<std::string> ScalarHistory::names() const {
  std::vector<std::string> out;
  for (const Entry& e : entries_) out.push_back(e.name);
  return out;
}

bool ScalarHistory::has(std::string_view name) const {
  return std::any_of(entries_.begin(), entries_.end(),
                     [&](const Entry& e) { return e.name == name; });
}

namespace {
template <class Values>
auto last_values(const Values& values, size_t window) {
  const size_t count = window == 0 ? values.size() : std::min(window, values.size());
  return std::pair(values.end() - static_cast<std::ptrdiff_t>(count), values.end());
}
}  // namespace

double ScalarHistory::current(std::string_view name) {
  flush();
  const Entry& e = entry(name);
  SEG_CHECK(!e.values.empty(), "no recorded value is called '", name, "'");
  return e.values.back();
}

double ScalarHistory::mean(std::string_view name, size_t window) {
  flush();
  const Entry& e = entry(name);
  const auto [begin, end] = last_values(e.values, window);
  double sum = 0;
  for (auto it = begin; it != end; ++it) sum += *it;
  return sum / static_cast<double>(end - begin);
}

double ScalarHistory::min(std::string_view name, size_t window) {
  flush();
  const Entry& e = entry(name);
  const auto [begin, end] = last_values(e.values, window);
  return *std::min_element(begin, end);
}

double ScalarHistory::max(std::string_view name, size_t window) {
  flush();
  const Entry& e = entry(name);
  const auto [begin, end] = last_values(e.values, window);
  return *std::max_element(begin, end);
}

Value ScalarHistory::state() {
  flush();
  Value out = Value::dict();
  for (const Entry& e : entries_) {
    Value values = Value::list();
    for (const double v : e.values) values.push_back(v);
    out.set(e.name, values);
  }
  return out;
}

void ScalarHistory::load_state(const Value& state) {
  clear();
  for (const auto& [name, values] : state.as_dict()) {
    Entry& e = entry(name.as_string());
    for (const Value& v : values.as_list()) push(e, v.as_float());
  }
}

}  // namespace seg
