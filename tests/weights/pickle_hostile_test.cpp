// Pickles that are damaged or want more than weights: refused with the byte and the name, in both containers.
#include "weights/pickle.h"
#include "weights/torch_files.h"

namespace easel {
namespace {

using namespace testing;

std::string stack_global(const std::string& module, const std::string& name) {
  return text(module) + text(name) + "\x93";
}

std::vector<Hostile> programs() {
  const std::string id = text("id");
  const auto refused = [](const std::string& name) { return name + " is refused: weights need no such thing"; };
  std::vector<Hostile> rows = {
      {"system", holding(call(global("posix", "system"), id)), refused("posix.system")},
      {"system in protocol 0", "cos\nsystem\n(S'id'\ntR.", refused("os.system")},
      {"eval by STACK_GLOBAL", holding(call(stack_global("builtins", "eval"), id)), refused("builtins.eval")},
      {"INST", kProto + "(" + id + "ios\nsystem\n.", "opcode INST of os.system is refused"},
      {"OBJ", kProto + "(" + id + "o.", "opcode OBJ is refused"},
      {"EXT1", kProto + "\x82\x01.", "opcode EXT1 is refused"},
      {"Popen by NEWOBJ", kProto + global("subprocess", "Popen") + tuple(id) + "\x81.", refused("subprocess.Popen")},
      {"NEWOBJ_EX", kProto + kOrderedDict + ")}\x92.", "opcode NEWOBJ_EX is refused"},
      {"attribute of an allowed class", holding(stack_global("torch", "FloatStorage.from_file")),
       refused("torch.FloatStorage.from_file")},
      {"module of an allowed name", holding(global("evil", "OrderedDict")), refused("evil.OrderedDict")},
      {"other case", holding(global("Collections", "OrderedDict")), refused("Collections.OrderedDict")},
      {"terminal codes", holding(global("\x1b[2J", "x")), refused(R"("\u001b[2J.x")")},
      {"name of a megabyte", holding(global("m", std::string(1 << 20, 'x'))), "is refused"},
      {"name that is a number", holding(text("os") + number(1) + "\x93"), "STACK_GLOBAL: expected text, got a whole"},
      {"first pickle of a polyglot", kProto + call(global("os", "system"), id) + "." + holding(tensor()),
       refused("os.system")},
      {"call of a storage", holding(call(global("torch", "FloatStorage"), number(1 << 30))),
       "torch.FloatStorage is called"},
      {"call of a dtype", holding(call(global("torch", "float32"), id)), "torch.float32 is called"},
      {"call of a callback",
       holding(call(global("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"), id)),
       "ModelCheckpoint is called"},
      {"call of a text", holding(call(id, id)), "REDUCE: expected a class, got text"},
      {"call without a tuple", kProto + kOrderedDict + list("") + "R.", "REDUCE: expected a class, got a dict"},
      {"arguments in a list", kProto + global("collections", "OrderedDict") + list("") + "R.",
       "REDUCE: arguments: expected a tuple, got a list"},
      {"instance of a storage", kProto + global("torch", "FloatStorage") + ")\x81.",
       "an instance of torch.FloatStorage is made"},
      {"state of a list", holding(list("") + "}b"), "BUILD of a list is refused"},
      {"state of a tensor", holding(tensor() + "}b"), "BUILD of a tensor is refused"},
      {"state of a class", holding(global("collections", "OrderedDict") + "}b"), "BUILD of a class is refused"},
      {"persistent id by line", kProto + "Pid\n.", "opcode PERSID is refused"},
      {"persistent module", holding(tuple(text("module") + number(1) + kNone + kNone + kNone) + "Q"),
       "persistent id: expected storage, got module"},
      {"persistent dtype",
       holding(tuple(text("storage") + global("torch", "float32") + text("0") + id + number(2)) + "Q"),
       "torch.float32 is no storage"},
      {"encoding that is a program", holding(call(global("_codecs", "encode"), id + text("rot13"))),
       "_codecs.encode: expected latin1, got rot13"},
  };
  // What careless allow-lists let through.
  for (const auto& [module, name] :
       std::vector<std::pair<std::string, std::string>>{{"builtins", "getattr"},
                                                        {"__builtin__", "apply"},
                                                        {"torch", "load"},
                                                        {"torch.storage", "_load_from_bytes"},
                                                        {"torch.hub", "load"},
                                                        {"torch.jit", "load"},
                                                        {"numpy", "load"},
                                                        {"numpy.core.multiarray", "_reconstruct"},
                                                        {"numpy.testing._private.utils", "runstring"},
                                                        {"functools", "partial"},
                                                        {"operator", "attrgetter"},
                                                        {"copyreg", "_reconstructor"},
                                                        {"collections", "Counter"},
                                                        {"torch._utils", "_rebuild_wrapper_subclass"},
                                                        {"torch._tensor", "_rebuild_from_type_v2"},
                                                        {"torch.nn.modules.linear", "Linear"},
                                                        {"", ""}})
    rows.push_back({module + "." + name, holding(global(module, name)), module + "." + name + " is refused"});
  return rows;
}

std::vector<Hostile> machine_faults() {
  const std::string early = "the pickle ends early";
  std::vector<Hostile> rows = {
      {"empty", "", early},
      {"no STOP", kProto + "}", early},
      {"STOP of nothing", kProto + ".", "a value is taken from an empty stack"},
      {"STOP with values left", kProto + "}}.", "STOP with values left on the stack"},
      {"STOP with a mark left", kProto + "(}.", "STOP with values left on the stack"},
      {"unknown opcode", kProto + "\xff.", "unknown opcode 255"},
      {"protocol 1", "\x80\x01}.", "pickle protocol 1, expected 2 to 5"},
      {"protocol 6", "\x80\x06}.", "pickle protocol 6, expected 2 to 5"},
      {"PROTO twice", kProto + kProto + "}.", "byte 2: PROTO inside a pickle"},
      {"text of 4 GB", kProto + "X\xff\xff\xff\xff" + "a.", early + ": 4294967295 bytes are needed, 2 are left"},
      {"text of 2^64 - 1", kProto + "\x8d" + std::string(8, '\xff') + "a.", early + ": 18446744073709551615"},
      {"bytes of 2^63", kProto + "\x8e" + little<uint64_t>(1ULL << 63) + "a.", early},
      {"long number cut", kProto + "\x8a\xff" + "1.", early},
      {"FRAME beyond the end", "\x80\x04\x95" + little<uint64_t>(100) + "}.", "FRAME of 100 bytes ends beyond"},
      {"global without an end", kProto + "cos", "a line without an end"},
      {"memo never stored", kProto + "h\x07.", "memo 7 was never stored"},
      {"memo between others", kProto + "}q\x05h\x04.", "memo 4 was never stored"},
      {"memo of 4 billion", kProto + "}r\xff\xff\xff\xff.", "memo index 4294967295 is refused"},
      {"memo of nothing", kProto + "q\x01.", "a value is taken from an empty stack"},
      {"REDUCE of nothing", kProto + "R.", "a value is taken from an empty stack"},
      {"taken from below a mark", kProto + "}(R.", "a value is taken from an empty stack"},
      {"TUPLE3 of two", kProto + "NN\x87.", "a value is taken from an empty stack"},
      {"APPENDS without a mark", kProto + "]e.", "items are taken without a mark"},
      {"APPENDS of nothing", kProto + "(Ne.", "a value is taken from an empty stack"},
      {"APPEND to a dict", kProto + "}Na.", "APPEND: expected a list, got a dict"},
      {"APPENDS to a tuple", kProto + ")(Ne.", "APPENDS: expected a list, got a tuple"},
      {"SETITEM of a list", kProto + "]NNs.", "SETITEMS: expected a dict, got a list"},
      {"SETITEMS of three", kProto + "}(NNNu.", "a key without a value"},
      {"ADDITEMS to a list", kProto + "](N\x90.", "ADDITEMS: expected a set, got a list"},
      {"persistent id that is text", holding(text("0") + "Q"), "BINPERSID: expected a tuple, got text"},
  };
  for (const auto& [code, name] : std::vector<std::pair<std::string, std::string>>{{"0", "POP"},
                                                                                   {"1", "POP_MARK"},
                                                                                   {"2", "DUP"},
                                                                                   {"I", "INT"},
                                                                                   {"L", "LONG"},
                                                                                   {"\x8b", "LONG4"},
                                                                                   {"F", "FLOAT"},
                                                                                   {"S", "STRING"},
                                                                                   {"V", "UNICODE"},
                                                                                   {"l", "LIST"},
                                                                                   {"d", "DICT"},
                                                                                   {"g", "GET"},
                                                                                   {"p", "PUT"},
                                                                                   {"\x83", "EXT2"},
                                                                                   {"\x84", "EXT4"},
                                                                                   {"\x91", "FROZENSET"},
                                                                                   {"\x96", "BYTEARRAY8"},
                                                                                   {"\x97", "NEXT_BUFFER"},
                                                                                   {"\x98", "READONLY_BUFFER"}})
    rows.push_back({name, kProto + "N" + code + "1\n.", "byte 3: opcode " + name + " is refused"});
  return rows;
}

// Files that ask for memory or time without end.
std::vector<Hostile> bombs() {
  const std::string more = "more than 2000000 opcodes";
  const auto many = [](std::size_t count, const std::string& opcodes) {
    std::string bytes;
    for (std::size_t i = 0; i < count; ++i) bytes += opcodes;
    return bytes;
  };
  std::string tower = tensor();
  for (int i = 0; i < 40; ++i) tower = dict(text("a") + tower);
  std::string doubled = dict(text("t") + tensor()), hollow = dict("");
  std::string doubling = doubled + "q\x01", hollow_doubling = hollow + "q\x01";
  const std::string twice = "\x86q\x01";  // TUPLE2 of a value and itself
  for (int i = 0; i < 30; ++i) doubling += "h\x01" + twice, hollow_doubling += "h\x01" + twice;
  const std::string list_of_pairs = list(many(1000, "h\x01"));
  return {
      {"two million Nones", kProto + "(" + many(2'000'001, "N") + "t.", more},
      {"two million marks", kProto + many(2'000'001, "(") + ".", more},
      {"two million memos", kProto + "}" + many(2'000'001, "\x94") + ".", more},
      {"lists in lists", kProto + many(1'000'000, "]a") + ".", "a value is taken from an empty stack"},
      {"tuples in tuples", kProto + "N" + many(1'000'000, "\x85") + ".", "expected a dict of tensors, got a tuple"},
      {"a dict 40 deep", kProto + tower + ".", "nested beyond any checkpoint"},
      {"a dict in itself", kProto + "}q\x01" + text("a") + "h\x01s.", "nested beyond any checkpoint"},
      {"a list in itself",
       holding("]q\x01h\x01"
               "a"),
       "nested beyond any checkpoint"},
      {"2^30 names of a tensor", holding(doubling), "more than 100000 tensors"},
      {"2^30 names of nothing", holding(hollow_doubling), "nested beyond any checkpoint"},
      {"a list copied 2,500 times",
       kProto + "(" + list(kNone + kNone) + "q\x01" + list_of_pairs + "q\x02" +
           many(2500, global("collections", "OrderedDict") + "h\x02\x85R") + "t.",
       "copies more than 2000000 items"},
      {"a text encoded 2,500 times",
       kProto + "(" + text(std::string(1000, 'x')) + "q\x01" + text("latin1") + "q\x02" +
           many(2500, global("_codecs", "encode") + "h\x01h\x02\x86R") + "t.",
       "copies more than 2000000 items"},
  };
}

std::vector<Hostile> tensor_faults() {
  const std::string rebuild = global("torch._utils", "_rebuild_tensor_v2");
  const auto view = [](const View& view) { return holding(tensor(view)); };
  const auto raw = [&](const std::string& size, const std::string& stride, const std::string& offset = number(0)) {
    return holding(call(rebuild, storage("FloatStorage", "0", 2) + offset + size + stride + kFalse + kOrderedDict));
  };
  const std::string beyond = "ends beyond its storage of 2 elements";
  constexpr int64_t kHuge = int64_t{1} << 62;
  return {
      {"offset past the end", view({.offset = 1}), beyond},
      {"negative offset", view({.offset = -1}), "offset: -1 is negative"},
      {"negative size", view({.size = {-2}}), "size: -2 is negative"},
      {"negative stride", view({.stride = {-1}}), "stride: -1 is negative"},
      {"size past the end", view({.size = {3}}), beyond},
      {"stride past the end", view({.stride = {2}}), beyond},
      {"stride wraps to 0", view({.size = {5}, .stride = {kHuge}}), "is beyond any file"},
      {"offset wraps", view({.offset = INT64_MAX}), "is beyond any file"},
      {"product wraps to 2", view({.size = {kHuge, 4, 2}, .stride = {0, 0, 1}}), "is beyond any file"},
      {"overflow hidden by a 0", view({.size = {0, kHuge, 4}, .stride = {1, 1, 1}}), "is beyond any file"},
      {"empty, offset past the end", view({.offset = 3, .size = {0}}), beyond},
      {"one number a million times", view({.size = {1'000'000}, .stride = {0}}), "repeats the elements of its storage"},
      {"two sizes, one stride", view({.size = {1, 2}, .stride = {1}}), "tensor of size [1, 2] has 1 strides"},
      {"65 dimensions", view({.size = std::vector<int64_t>(65, 1), .stride = std::vector<int64_t>(65, 1)}),
       "size: more than 64 numbers"},
      {"size is a list", raw(list(number(2)), numbers({1})), "size: expected a tuple, got a list"},
      {"size is a fraction", raw("G" + std::string(8, '\0') + "\x85", numbers({1})),
       "expected a whole number, got a number"},
      {"size is true", raw("\x88\x85", numbers({1})), "size: expected a whole number, got a truth value"},
      {"size of 2^70", raw("\x8a\x09" + std::string(8, '\0') + "\x40\x85", numbers({1})), "got a long number"},
      {"no storage", holding(call(rebuild, number(0) + number(0) + ")" + ")" + kFalse + kOrderedDict)),
       "expected a storage, got a whole number"},
      {"five arguments", holding(call(rebuild, storage("FloatStorage", "0", 2) + number(0) + ")" + ")" + kFalse)),
       "_rebuild_tensor_v2: expected 6 arguments, got 5"},
      {"dtype that is a storage",
       holding(call(global("torch._utils", "_rebuild_tensor_v3"), storage("ByteStorage", "0", 8) + number(0) +
                                                                      numbers({2}) + numbers({1}) + kFalse +
                                                                      kOrderedDict + global("torch", "FloatStorage"))),
       "torch.FloatStorage is no dtype"},
      {"wider dtype past the end",
       holding(call(global("torch._utils", "_rebuild_tensor_v3"), storage("ByteStorage", "0", 8) + number(0) +
                                                                      numbers({8}) + numbers({1}) + kFalse +
                                                                      kOrderedDict + global("torch", "uint16"))),
       "ends beyond its storage of 4 elements"},
      {"storage of 2^62 elements", view({.count = kHuge}), "more elements than any file has"},
      {"storage of -1 elements", view({.count = -1}), "elements: -1 is negative"},
      {"parameter of a list",
       holding(call(global("torch._utils", "_rebuild_parameter"), list("") + kFalse + kOrderedDict)),
       "_rebuild_parameter: expected a tensor, got a list"},
  };
}

std::vector<Hostile> content_faults() {
  const std::string dtype = global("numpy", "dtype");
  const auto scalar = [&](const std::string& code, const std::string& bytes, const std::string& state = "") {
    return holding(call(global("numpy.core.multiarray", "scalar"),
                        call(dtype, text(code) + "\x89\x88") + state + "C" + static_cast<char>(bytes.size()) + bytes));
  };
  return {
      {"a list", kProto + list(tensor()) + ".", "expected a dict of tensors, got a list"},
      {"a number", kProto + number(1) + ".", "expected a dict of tensors, got a whole number"},
      {"no tensors", holding(number(1)), "holds no tensors"},
      {"state dict without tensors", kProto + dict(text("state_dict") + dict("") + text("a") + tensor()) + ".",
       "holds no tensors"},
      {"a class as a name", kProto + dict(global("torch", "float32") + tensor()) + ".",
       "expected text as the name of a tensor, got a class"},
      {"a name twice", kProto + dict(text("a") + tensor() + text("a") + tensor()) + ".",
       "tensor a: the name is given twice"},
      {"a name spelled two ways", kProto + dict(text("a.b") + tensor() + text("a") + dict(text("b") + tensor())) + ".",
       "tensor a.b: the name is given twice"},
      {"no name", kProto + dict(text("") + tensor()) + ".", R"(tensor "": not a name)"},
      {"invalid UTF-8", kProto + dict(text("\xff") + tensor()) + ".", "not a name"},
      {"a name of 1001 bytes", kProto + dict(text(std::string(1001, 'x')) + tensor()) + ".", "a name of 1001 bytes"},
      {"terminal codes in a name",
       kProto + dict(text("\x1b[2J") + dict(text("b") + tensor() + text("b") + tensor())) + ".",
       R"(tensor "\u001b[2J.b": the name is given twice)"},
      {"numpy object", scalar("O8", std::string(8, 'x')), "numpy scalar: dtype O8 is not supported"},
      {"numpy scalar cut", scalar("f8", "1234"), "numpy scalar: expected 8 bytes, got 4"},
      {"numpy scalar of another machine", scalar("f8", "12345678", tuple(number(3) + text(">")) + "b"),
       "expected byte order <, got >"},
      {"numpy scalar of an instance",
       holding(call(global("numpy.core.multiarray", "scalar"),
                    global("torch.nn.modules.container", "ParameterDict") + ")\x81" + "C\x01x")),
       "numpy scalar: expected a numpy.dtype"},
      {"Latin-1 that is none", holding(call(global("_codecs", "encode"), text("\xe2\x82\xac") + text("latin1"))),
       "text that is not Latin-1"},
      {"parameters that are a list",
       holding(global("torch.nn.modules.container", "ParameterDict") + ")\x81" + dict(text("_parameters") + list("")) +
               "b"),
       "_parameters: expected a dict, got a list"},
  };
}

class HostilePickles : public ::testing::TestWithParam<std::vector<Hostile> (*)()> {};

TEST_P(HostilePickles, AreRefusedByName) {
  const Folder folder;
  for (const Hostile& row : GetParam()()) {
    SCOPED_TRACE(row.name);
    const fs::path file = folder.write("model.ckpt", zip(checkpoint(row.bytes)));
    const std::string said = message([&] { open_torch_file(file); });
    expect_has(said, row.message);
    EXPECT_TRUE(said.starts_with(file.string() + ": ")) << said;
    EXPECT_LT(said.size(), 1500u) << "a message repeats the file";
    // The same pickle in the older container, where others follow it and bytes count from the file's begin.
    message([&] { open_torch_file(folder.write("stream", stream(row.bytes))); });
  }
}

INSTANTIATE_TEST_SUITE_P(Pickles, HostilePickles,
                         ::testing::Values(programs, machine_faults, bombs, tensor_faults, content_faults));

TEST(HostilePickle, SaysWhichByte) {
  const Folder folder;
  const std::string pickle = holding(call(global("posix", "system"), text("id")));
  const std::string at = std::to_string(pickle.find("cposix"));
  expect_has(message([&] { open_torch_file(folder.write("a.ckpt", zip(checkpoint(pickle)))); }),
             "a.ckpt: archive/data.pkl, byte " + at + ": posix.system is refused");
  const std::string bytes = stream(pickle);
  expect_has(message([&] { open_torch_file(folder.write("b.ckpt", bytes)); }),
             "b.ckpt, byte " + std::to_string(bytes.find("cposix")) + ": posix.system is refused");
}

TEST(HostilePickle, RunsNothing) {
  const Folder folder;
  const std::string command = "touch " + (folder / "ran").string();
  for (const std::string& pickle :
       {holding(call(global("posix", "system"), text(command))), kProto + "(" + text(command) + "iposix\nsystem\n.",
        "cposix\nsystem\n(S'" + command + "'\ntR."}) {
    for (const std::string& bytes : {zip(checkpoint(pickle)), stream(pickle), pickle})
      message([&] { open_torch_file(folder.write("file", bytes)); });
  }
  EXPECT_FALSE(fs::exists(folder / "ran"));
}

TEST(PickleGlobals, EveryTypeHasAStoredDtype) {
  std::set<std::string> names;
  for (const pickle::Global& global : pickle::known_globals()) {
    const std::string name = pickle::shown_global(global.module, global.name);
    EXPECT_TRUE(names.insert(name).second) << name;
    EXPECT_EQ(pickle::find_global(global.module, global.name), &global) << name;
    const bool typed = global.role == pickle::Role::kStorage || global.role == pickle::Role::kDtype;
    EXPECT_EQ(find_stored_dtype(global.dtype) != nullptr, typed) << name;
  }
}

}  // namespace
}  // namespace easel
