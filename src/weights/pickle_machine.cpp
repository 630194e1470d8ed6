#include <array>
#include <cstring>

#include "weights/pickle_builder.h"

namespace easel::pickle {

namespace {

// A state dict takes some 40 opcodes a tensor: enough for 50,000 tensors.
constexpr std::size_t kMaxOpcodes = 2'000'000;

// The stack machine. Every opcode pushes, stores or remembers at most one value and reads what it needs from the file.
class Machine {
 public:
  Machine(std::string_view bytes, std::size_t begin, const std::string& where)
      : bytes_(bytes), begin_(begin), position_(begin), place_{where, begin} {}

  Pickle run() {
    while (!done_) step();
    pickle_.end = position_;
    return std::move(pickle_);
  }

 private:
  struct Opcode {
    const char* name = nullptr;
    void (Machine::*run)() = nullptr;  // null: known, and refused
  };
  static std::array<Opcode, 256> make_opcodes();

  void step();

  // ---- bytes, little-endian as this machine ----
  std::string_view take(uint64_t count);
  std::string_view line();
  template <class Number>
  Number number() {
    Number value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  // ---- stack and memo ----
  void push(Value value) { stack_.push_back(builder_.add(std::move(value))); }
  Ref top() const;
  Ref pop();
  std::vector<Ref> pop_to_mark();
  void remember(std::size_t index);

  // ---- opcodes ----
  void proto();
  void frame();
  void stop();
  void mark() { marks_.push_back(stack_.size()); }
  template <class Kind>
  void fresh() {
    push(Kind{});
  }
  template <bool value>
  void boolean() {
    push(value);
  }
  template <class Number>
  void integer() {
    push(static_cast<int64_t>(number<Number>()));
  }
  void long1();
  void binfloat();
  template <class Kind, class Length>
  void text() {
    push(Kind{take(number<Length>())});
  }
  template <std::size_t count>
  void tuple_of();
  void tuple() { push(Tuple{pop_to_mark()}); }
  void append() { insert<List>("APPEND", {pop()}); }
  void appends() { insert<List>("APPENDS", pop_to_mark()); }
  void additems() { insert<Set>("ADDITEMS", pop_to_mark()); }
  template <class Kind>
  void insert(const char* what, const std::vector<Ref>& items);
  void setitem();
  void setitems() { set_items(pop_to_mark()); }
  void set_items(const std::vector<Ref>& items);
  template <class Index>
  void get();
  template <class Index>
  void put() {
    remember(number<Index>());
  }
  void memoize() { remember(memo_.size()); }
  void global();
  void stack_global();
  void inst();
  void reduce();
  void newobj();
  void build();
  void binpersid();

  std::string_view bytes_;
  std::size_t begin_, position_, count_ = 0;
  bool done_ = false;
  Place place_;
  Pickle pickle_;
  Builder builder_{pickle_, place_};
  std::vector<Ref> stack_;
  std::vector<std::size_t> marks_;
  std::vector<std::optional<Ref>> memo_;
};

std::array<Machine::Opcode, 256> Machine::make_opcodes() {
  std::array<Opcode, 256> table;
  const auto row = [&](int code, const char* name, void (Machine::*run)() = nullptr) {
    table[static_cast<std::size_t>(code)] = {name, run};
  };
  row(0x80, "PROTO", &Machine::proto);
  row(0x95, "FRAME", &Machine::frame);
  row('.', "STOP", &Machine::stop);
  row('(', "MARK", &Machine::mark);
  row('N', "NONE", &Machine::fresh<None>);
  row(0x88, "NEWTRUE", &Machine::boolean<true>);
  row(0x89, "NEWFALSE", &Machine::boolean<false>);
  row('J', "BININT", &Machine::integer<int32_t>);
  row('K', "BININT1", &Machine::integer<uint8_t>);
  row('M', "BININT2", &Machine::integer<uint16_t>);
  row(0x8a, "LONG1", &Machine::long1);
  row('G', "BINFLOAT", &Machine::binfloat);
  row('X', "BINUNICODE", &Machine::text<Text, uint32_t>);
  row(0x8c, "SHORT_BINUNICODE", &Machine::text<Text, uint8_t>);
  row(0x8d, "BINUNICODE8", &Machine::text<Text, uint64_t>);
  row('T', "BINSTRING", &Machine::text<Text, uint32_t>);  // str of Python 2
  row('U', "SHORT_BINSTRING", &Machine::text<Text, uint8_t>);
  row('B', "BINBYTES", &Machine::text<Bytes, uint32_t>);
  row('C', "SHORT_BINBYTES", &Machine::text<Bytes, uint8_t>);
  row(0x8e, "BINBYTES8", &Machine::text<Bytes, uint64_t>);
  row(')', "EMPTY_TUPLE", &Machine::fresh<Tuple>);
  row(0x85, "TUPLE1", &Machine::tuple_of<1>);
  row(0x86, "TUPLE2", &Machine::tuple_of<2>);
  row(0x87, "TUPLE3", &Machine::tuple_of<3>);
  row('t', "TUPLE", &Machine::tuple);
  row(']', "EMPTY_LIST", &Machine::fresh<List>);
  row('a', "APPEND", &Machine::append);
  row('e', "APPENDS", &Machine::appends);
  row(0x8f, "EMPTY_SET", &Machine::fresh<Set>);
  row(0x90, "ADDITEMS", &Machine::additems);
  row('}', "EMPTY_DICT", &Machine::fresh<Dict>);
  row('s', "SETITEM", &Machine::setitem);
  row('u', "SETITEMS", &Machine::setitems);
  row('h', "BINGET", &Machine::get<uint8_t>);
  row('j', "LONG_BINGET", &Machine::get<uint32_t>);
  row('q', "BINPUT", &Machine::put<uint8_t>);
  row('r', "LONG_BINPUT", &Machine::put<uint32_t>);
  row(0x94, "MEMOIZE", &Machine::memoize);
  row('c', "GLOBAL", &Machine::global);
  row(0x93, "STACK_GLOBAL", &Machine::stack_global);
  row('i', "INST", &Machine::inst);
  row('R', "REDUCE", &Machine::reduce);
  row(0x81, "NEWOBJ", &Machine::newobj);
  row('b', "BUILD", &Machine::build);
  row('Q', "BINPERSID", &Machine::binpersid);
  // What torch.save does not write.
  row('0', "POP"), row('1', "POP_MARK"), row('2', "DUP"), row('I', "INT"), row('L', "LONG"), row(0x8b, "LONG4");
  row('F', "FLOAT"), row('S', "STRING"), row('V', "UNICODE"), row('l', "LIST"), row('d', "DICT"), row('g', "GET");
  row('p', "PUT"), row('P', "PERSID"), row('o', "OBJ"), row(0x92, "NEWOBJ_EX"), row(0x91, "FROZENSET");
  row(0x82, "EXT1"), row(0x83, "EXT2"), row(0x84, "EXT4"), row(0x96, "BYTEARRAY8"), row(0x97, "NEXT_BUFFER");
  row(0x98, "READONLY_BUFFER");
  return table;
}

void Machine::step() {
  static const std::array<Opcode, 256> kOpcodes = make_opcodes();
  place_.byte = position_;
  if (++count_ > kMaxOpcodes) place_.refuse("more than " + std::to_string(kMaxOpcodes) + " opcodes");
  const auto code = number<uint8_t>();
  const Opcode& opcode = kOpcodes[code];
  if (!opcode.name) place_.fail("unknown opcode " + std::to_string(code));
  if (!opcode.run) place_.refuse(std::string("opcode ") + opcode.name + " is refused: torch.save writes none");
  (this->*opcode.run)();
}

std::string_view Machine::take(uint64_t count) {
  const std::string_view rest = bytes_.substr(position_);
  if (count > rest.size()) {
    place_.fail("the pickle ends early: " + std::to_string(count) + " bytes are needed, " +
                std::to_string(rest.size()) + " are left");
  }
  position_ += count;
  return rest.substr(0, count);
}

std::string_view Machine::line() {
  const std::size_t end = bytes_.find('\n', position_);
  if (end == bytes_.npos) place_.fail("the pickle ends early: a line without an end");
  const std::string_view line = take(end + 1 - position_);
  return line.substr(0, line.size() - 1);
}

Ref Machine::top() const {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) place_.fail("a value is taken from an empty stack");
  return stack_.back();
}

Ref Machine::pop() {
  const Ref value = top();
  stack_.pop_back();
  return value;
}

std::vector<Ref> Machine::pop_to_mark() {
  if (marks_.empty()) place_.fail("items are taken without a mark");
  const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
  std::vector<Ref> items(begin, stack_.end());
  stack_.erase(begin, stack_.end());
  marks_.pop_back();
  return items;
}

void Machine::remember(std::size_t index) {
  if (index > kMaxOpcodes) place_.refuse("memo index " + std::to_string(index) + " is refused");
  if (index >= memo_.size()) memo_.resize(index + 1);
  memo_[index] = top();
}

void Machine::proto() {
  const auto protocol = number<uint8_t>();
  if (place_.byte != begin_) place_.fail("PROTO inside a pickle");
  if (protocol < 2 || protocol > 5) place_.fail("pickle protocol " + std::to_string(protocol) + ", expected 2 to 5");
}

void Machine::frame() {
  const auto length = number<uint64_t>();
  if (length > bytes_.size() - position_)
    place_.fail("FRAME of " + std::to_string(length) + " bytes ends beyond the pickle");
}

void Machine::stop() {
  pickle_.root = pop();
  if (!stack_.empty() || !marks_.empty()) place_.fail("STOP with values left on the stack");
  done_ = true;
}

void Machine::long1() {
  const std::string_view bytes = take(number<uint8_t>());
  if (bytes.size() > sizeof(int64_t)) return push(Long{bytes});
  const bool negative = !bytes.empty() && (bytes.back() & 0x80) != 0;
  int64_t value = negative ? -1 : 0;
  if (!bytes.empty()) std::memcpy(&value, bytes.data(), bytes.size());
  push(value);
}

void Machine::binfloat() {
  const uint64_t bits = __builtin_bswap64(number<uint64_t>());  // big-endian, unlike all else
  double value = 0;
  std::memcpy(&value, &bits, sizeof value);
  push(value);
}

template <std::size_t count>
void Machine::tuple_of() {
  std::vector<Ref> items(count);
  for (std::size_t i = count; i-- > 0;) items[i] = pop();
  push(Tuple{std::move(items)});
}

template <class Kind>
void Machine::insert(const char* what, const std::vector<Ref>& items) {
  auto& target = builder_.get<Kind>(top(), what).items;
  target.insert(target.end(), items.begin(), items.end());
}

void Machine::setitem() {
  const Ref value = pop(), key = pop();
  set_items({key, value});
}

void Machine::set_items(const std::vector<Ref>& items) {
  if (items.size() % 2 != 0) place_.fail("SETITEMS of a key without a value");
  auto& target = builder_.get<Dict>(top(), "SETITEMS").items;
  for (std::size_t i = 0; i < items.size(); i += 2) target.emplace_back(items[i], items[i + 1]);
}

template <class Index>
void Machine::get() {
  const auto index = number<Index>();
  if (index >= memo_.size() || !memo_[index]) place_.fail("memo " + std::to_string(index) + " was never stored");
  stack_.push_back(*memo_[index]);
}

void Machine::global() {
  const std::string_view module = line(), name = line();
  push(&builder_.global(module, name));
}

void Machine::stack_global() {
  const Ref name = pop(), module = pop();
  push(
      &builder_.global(builder_.get<Text>(module, "STACK_GLOBAL").utf8, builder_.get<Text>(name, "STACK_GLOBAL").utf8));
}

// Makes an instance of what it names; torch.save does not write it, but the name tells what the file is after.
void Machine::inst() {
  const std::string_view module = line(), name = line();
  place_.refuse("opcode INST of " + shown_global(module, name) + " is refused: torch.save writes none");
}

void Machine::reduce() {
  const Ref arguments = pop(), callee = pop();
  stack_.push_back(builder_.call(callee, arguments));
}

void Machine::newobj() {
  const Ref arguments = pop(), type = pop();
  stack_.push_back(builder_.instance(type, arguments));
}

void Machine::build() {
  const Ref state = pop();
  builder_.set_state(top(), state);
}

void Machine::binpersid() { stack_.push_back(builder_.storage(pop())); }

}  // namespace

Pickle read_pickle(std::string_view bytes, std::size_t begin, const std::string& where) {
  return Machine(bytes, begin, where).run();
}

}  // namespace easel::pickle
