#include "batch/csv_rows.h"
#include "batch/job_names.h"
#include "batch/json_line.h"
#include "easel/jobs.h"

namespace easel {

namespace {

constexpr int64_t kMostCombinations = 100'000;

Sweep::Axis axis_of(const RequestField& field, const std::vector<CsvCell>& cells, const std::string& spelled,
                    Faults& faults) {
  Sweep::Axis axis{&field, {}, {}};
  for (const CsvCell& cell : cells) {
    Request request;
    set_from_text(request, field, cell.text, spelled, faults);
    for (const std::string& other : axis.values) {
      if (other == cell.text) faults.add(spelled + ": " + shown(json(other)) + " is swept twice");
    }
    axis.values.push_back(cell.text);
    axis.requests.push_back(std::move(request));
  }
  return axis;
}

}  // namespace

void Sweep::add(std::string_view text, const std::string& spelled, Faults& faults) {
  const std::size_t equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0)
    return faults.add(spelled + " " + shown(json(cut_short(text, 60))) + ": expected NAME=VALUE,VALUE,...");
  const std::string_view written = text.substr(0, equals);
  const auto name = find_job_flag(written);
  if (!name || name->field == nullptr)
    return faults.add(spelled + ": " + shown(json(written)) + " is no field of a request" + hint_for_key(written));
  for (const Axis& axis : axes_) {
    if (axis.field == name->field) return faults.add(spelled + ": " + name->field->name + " is swept already");
  }
  const std::string full = spelled + " " + name->field->name;
  std::string fault;
  const auto cells = csv_cells(text.substr(equals + 1), fault);
  if (!cells) return faults.add(full + ": " + fault);
  axes_.push_back(axis_of(*name->field, *cells, full, faults));
  if (size() > kMostCombinations)
    faults.add(spelled + ": more than " + std::to_string(kMostCombinations) + " combinations");
}

int64_t Sweep::size() const {
  int64_t size = 1;
  for (const Axis& axis : axes_) size = std::min(size, kMostCombinations) * static_cast<int64_t>(axis.values.size());
  return size;
}

Request Sweep::combination(int64_t index) const {
  Request request;
  for (auto axis = axes_.rbegin(); axis != axes_.rend(); ++axis) {
    const auto count = static_cast<int64_t>(axis->values.size());
    request = lay_over(std::move(request), axis->requests[index % count]);
    index /= count;
  }
  return request;
}

std::string Sweep::label(int64_t index) const {
  std::string text;
  for (auto axis = axes_.rbegin(); axis != axes_.rend(); ++axis) {
    const auto count = static_cast<int64_t>(axis->values.size());
    text = axis->field->name + " " + axis->values[index % count] + (text.empty() ? "" : ", " + text);
    index /= count;
  }
  return text;
}

}  // namespace easel
