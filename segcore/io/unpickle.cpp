#include "segcore/io/unpickle.hpp"

#include <charconv>
#include <cstring>
#include <unordered_map>

#include "segcore/io/numpy_array.hpp"
#include "segcore/io/pickle_globals.hpp"
#include "segcore/io/pickle_text.hpp"
#include "segcore/io/pickle_values.hpp"

namespace seg {
namespace {

/// The stack machine that a pickle is a program for.
class Unpickler {
 public:
  Unpickler(std::string_view source, const StorageSource& storages)
      : text_(source), values_(text_), globals_(text_, values_, storages) {}

  Unpickled run();

 private:
  void push(Value v) { stack_.push_back(std::move(v)); }
  Value& top() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) text_.fail("its stack is empty");
    return stack_.back();
  }
  Value pop() {
    Value out = std::move(top());
    stack_.pop_back();
    return out;
  }
  ValueList pop_to_mark() {
    if (marks_.empty()) text_.fail("there is no mark");
    const auto begin = stack_.begin() + static_cast<ptrdiff_t>(marks_.back());
    ValueList out(std::make_move_iterator(begin), std::make_move_iterator(stack_.end()));
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return out;
  }

  void memoize(uint64_t place, const Value& v) {
    values_.charge(v);
    memo_.insert_or_assign(place, v);
  }
  void get(uint64_t place) {
    const auto found = memo_.find(place);
    if (found == memo_.end()) text_.fail("nothing is remembered under ", place);
    values_.charge(found->second);
    push(resolved(found->second));
  }

  Value decimal_long(std::string_view digits);
  Value binary_long(std::string_view little_endian);
  /// Sets the state of the object below it on the stack.
  void build();

  void step(uint8_t opcode);
  // Each runs an opcode of its group; false for those of others.
  bool step_stack(uint8_t opcode);
  bool step_number(uint8_t opcode);
  bool step_string(uint8_t opcode);
  bool step_container(uint8_t opcode);
  bool step_memo(uint8_t opcode);
  bool step_object(uint8_t opcode);

  PickleText text_;
  PickleValues values_;
  PickleGlobals globals_;
  bool done_ = false;
  std::vector<Value> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint64_t, Value> memo_;
};

/// As protocol 0 writes a long integer: 123L.
Value Unpickler::decimal_long(std::string_view digits) {
  if (!digits.empty() && digits.back() == 'L') digits.remove_suffix(1);
  constexpr size_t kSurelyFits = 18;
  if (digits.size() > kSurelyFits + 1) {
    int64_t v = 0;
    const char* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, v);
    if (error == std::errc::result_out_of_range && stop == end) {
      return values_.new_object(std::string(kLargeInteger), {Value(std::string(digits))});
    }
  }
  return text_.decimal(digits);
}

Value Unpickler::binary_long(std::string_view little_endian) {
  if (little_endian.size() > 8) return values_.large_integer(little_endian);
  uint64_t v = !little_endian.empty() && (little_endian.back() & 0x80) ? ~uint64_t{0} : 0;
  for (size_t i = little_endian.size(); i-- > 0;) {
    v = v << 8 | static_cast<uint8_t>(little_endian[i]);
  }
  return static_cast<int64_t>(v);
}

void Unpickler::build() {
  const Value state = pop();
  Value& object = top();
  if (!object.is_opaque() || !object.as_opaque().state) return;  // attributes of a dict, a tensor
  Value& kept = *object.as_opaque().state;
  if (object.as_opaque().type == "numpy.ndarray" && state.is_tuple() &&
      state.as_list().size() >= 5) {
    // (version, shape, dtype, is Fortran order, data)
    const ValueList& items = state.as_list();
    values_.charge(items[4]);
    const bool fortran = (items[3].is_bool() || items[3].is_int()) && items[3].as_int() != 0;
    if (auto array = numpy_array(items[2], items[1], fortran, items[4])) {
      kept = *array;
      object = Value(*array);
      return;
    }
  }
  if (kept.is_none()) {
    kept = state;
  } else if (kept.is_dict() && state.is_dict() && &kept.as_dict() != &state.as_dict()) {
    for (const auto& [key, value] : state.as_dict()) {
      values_.charge(ValueList{key, value});
    }
    for (const auto& [key, value] : state.as_dict()) values_.set_item(Value(kept), key, value);
  } else {
    kept = values_.new_tuple({kept, state});
  }
}

bool Unpickler::step_stack(uint8_t opcode) {
  switch (opcode) {
    case '(':
      marks_.push_back(stack_.size());
      break;
    case '.':
      done_ = true;
      break;
    case '0':
      if (!marks_.empty() && marks_.back() == stack_.size()) {
        marks_.pop_back();
      } else {
        pop();
      }
      break;
    case '1':
      pop_to_mark();
      break;
    case '2': {
      const Value copy = top();
      values_.charge(copy);
      push(copy);
      break;
    }
    case 'N':
      push({});
      break;
    case 0x88:
      push(true);
      break;
    case 0x89:
      push(false);
      break;
    default:
      return false;
  }
  return true;
}

bool Unpickler::step_number(uint8_t opcode) {
  switch (opcode) {
    case 'I': {
      const auto digits = text_.line();
      if (digits == "00" || digits == "01") {
        push(digits == "01");
      } else {
        push(text_.decimal(digits));
      }
      break;
    }
    case 'L':
      push(decimal_long(text_.line()));
      break;
    case 'J':
      push(static_cast<int64_t>(static_cast<int32_t>(text_.number(4))));
      break;
    case 'K':
      push(static_cast<int64_t>(text_.number(1)));
      break;
    case 'M':
      push(static_cast<int64_t>(text_.number(2)));
      break;
    case 0x8a:
      push(binary_long(text_.bytes(text_.number(1))));
      break;
    case 0x8b:
      push(binary_long(text_.bytes(text_.number(4))));
      break;
    case 'F': {
      const std::string digits(text_.line());
      char* end = nullptr;
      const double v = std::strtod(digits.c_str(), &end);
      if (end != digits.c_str() + digits.size() || digits.empty())
        text_.fail("a number is expected");
      push(v);
      break;
    }
    case 'G': {
      uint64_t bits = 0;  // big endian
      for (const char c : text_.bytes(8)) bits = bits << 8 | static_cast<uint8_t>(c);
      double v = 0;
      std::memcpy(&v, &bits, sizeof(v));
      push(v);
      break;
    }
    default:
      return false;
  }
  return true;
}

bool Unpickler::step_string(uint8_t opcode) {
  switch (opcode) {
    case 'S':
      push(text_.quoted(text_.line()));
      break;
    case 'V':
      push(text_.raw_unicode(text_.line()));
      break;
    case 'T':
    case 'X':
      push(std::string(text_.bytes(text_.number(4))));
      break;
    case 'U':
    case 0x8c:
      push(std::string(text_.bytes(text_.number(1))));
      break;
    case 0x8d:
      push(std::string(text_.bytes(text_.number(8))));
      break;
    case 'C':
      push(Value::Bytes{std::string(text_.bytes(text_.number(1)))});
      break;
    case 'B':
      push(Value::Bytes{std::string(text_.bytes(text_.number(4)))});
      break;
    case 0x8e:
    case 0x96:
      push(Value::Bytes{std::string(text_.bytes(text_.number(8)))});
      break;
    case 0x98:
      break;  // a buffer becomes read-only
    default:
      return false;
  }
  return true;
}

bool Unpickler::step_container(uint8_t opcode) {
  switch (opcode) {
    case ')':
      push(values_.new_tuple({}));
      break;
    case 't':
      push(values_.new_tuple(pop_to_mark()));
      break;
    case 0x85:
    case 0x86:
    case 0x87: {
      ValueList items(opcode - 0x84);
      for (size_t i = items.size(); i-- > 0;) items[i] = pop();
      push(values_.new_tuple(std::move(items)));
      break;
    }
    case ']':
      push(values_.new_list({}));
      break;
    case 0x8f:
      push(values_.new_list({}, ListKind::kSet));
      break;
    case 'l':
      push(values_.new_list(pop_to_mark()));
      break;
    case 0x91:
      push(values_.new_list(pop_to_mark(), ListKind::kFrozenSet));
      break;
    case 'a': {
      Value item = pop();
      values_.append(top(), std::move(item));
      break;
    }
    case 'e':
    case 0x90: {
      ValueList items = pop_to_mark();
      const Value to = top();
      for (Value& item : items) values_.append(to, std::move(item));
      break;
    }
    case '}':
      push(values_.new_dict());
      break;
    case 'd':
    case 'u': {
      ValueList items = pop_to_mark();
      if (items.size() % 2 != 0) text_.fail("a dict with a key without a value");
      if (opcode == 'd') push(values_.new_dict());
      const Value to = top();
      for (size_t i = 0; i < items.size(); i += 2) {
        values_.set_item(to, std::move(items[i]), std::move(items[i + 1]));
      }
      break;
    }
    case 's': {
      Value value = pop();
      Value key = pop();
      values_.set_item(Value(top()), std::move(key), std::move(value));
      break;
    }
    default:
      return false;
  }
  return true;
}

bool Unpickler::step_memo(uint8_t opcode) {
  switch (opcode) {
    case 'p': {
      const int64_t place = text_.decimal(text_.line());
      memoize(static_cast<uint64_t>(place), top());
      break;
    }
    case 'q': {
      const uint64_t place = text_.number(1);
      memoize(place, top());
      break;
    }
    case 'r': {
      const uint64_t place = text_.number(4);
      memoize(place, top());
      break;
    }
    case 0x94:
      memoize(memo_.size(), top());
      break;
    case 'g':
      get(static_cast<uint64_t>(text_.decimal(text_.line())));
      break;
    case 'h':
      get(text_.number(1));
      break;
    case 'j':
      get(text_.number(4));
      break;
    default:
      return false;
  }
  return true;
}

bool Unpickler::step_object(uint8_t opcode) {
  switch (opcode) {
    case 'c': {
      const auto module = text_.line();
      const auto name = text_.line();
      push(pickle_global(module, name));
      break;
    }
    case 0x93: {
      const Value name = pop();
      const Value module = pop();
      push(pickle_global(module.as_string(), name.as_string()));
      break;
    }
    case 'R':
    case 0x81: {
      const Value arguments = pop();
      const Value type = pop();
      push(globals_.call(global_name(type), arguments));
      break;
    }
    case 0x92: {
      const Value keywords = pop();
      const Value arguments = pop();
      const Value type = pop();
      if (keywords.is_dict() && keywords.as_dict().empty()) {
        push(globals_.call(global_name(type), arguments));
      } else {
        push(values_.new_object(global_name(type), {arguments, keywords}));
      }
      break;
    }
    case 'o': {
      ValueList items = pop_to_mark();
      if (items.empty()) text_.fail("an object without a class");
      const Value type = items[0];
      items.erase(items.begin());
      push(globals_.call(global_name(type), values_.new_tuple(std::move(items))));
      break;
    }
    case 'i': {
      const auto module = text_.line();
      const auto name = text_.line();
      const Value type = pickle_global(module, name);
      push(globals_.call(global_name(type), values_.new_tuple(pop_to_mark())));
      break;
    }
    case 'b':
      build();
      break;
    case 'Q':
      push(globals_.persistent(pop()));
      break;
    default:
      return false;
  }
  return true;
}

void Unpickler::step(uint8_t opcode) {
  constexpr uint8_t kProtocol = 0x80, kFrame = 0x95;
  if (opcode == kProtocol) {
    if (const uint8_t version = text_.byte(); version > 5) {
      text_.fail("pickle protocol ", int{version});
    }
  } else if (opcode == kFrame) {
    if (text_.number(8) > text_.left()) text_.fail("cut short");
  } else if (!step_stack(opcode) && !step_number(opcode) && !step_string(opcode) &&
             !step_container(opcode) && !step_memo(opcode) && !step_object(opcode)) {
    text_.fail("unknown or unsupported opcode ", int{opcode});
  }
}

Unpickled Unpickler::run() {
  while (!done_) step(text_.opcode());
  Unpickled out{pop(), text_.position()};
  values_.finish(out.value);
  return out;
}

}  // namespace

Unpickled unpickle(std::string_view text, const StorageSource& storages) {
  Unpickler unpickler(text, storages);
  return unpickler.run();
}

}  // namespace seg
