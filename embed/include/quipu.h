// Quipu as a C library: runs quantised Llama models on CPUs. Made by cbindgen from embed/src; do not edit.

#ifndef QUIPU_H
#define QUIPU_H

#include <stddef.h>
#include <stdint.h>

// What became of a call. For everything but QUIPU_STATUS_OK, quipu_last_error() has a sentence.
typedef enum {
  // Done.
  QUIPU_STATUS_OK = 0,
  // An argument is bad: a null pointer, a text that is no UTF-8, a number out of range.
  QUIPU_STATUS_ARGUMENT = 1,
  // The model's file cannot be read, or is none.
  QUIPU_STATUS_OPEN = 2,
  // The model cannot be loaded: it is not supported, or asks for what this machine does not have.
  QUIPU_STATUS_LOAD = 3,
  // The text cannot be continued: the prompt is empty or too long for the context.
  QUIPU_STATUS_GENERATE = 4,
  // The model is in use: by another thread, or by the call whose callback called this.
  QUIPU_STATUS_BUSY = 5,
  // A fault of the library. The model can be used again; please report it.
  QUIPU_STATUS_INTERNAL = 6,
  // The session cannot be opened, since it is another model's or damaged, or cannot be saved.
  QUIPU_STATUS_SESSION = 7,
} quipu_status;

// Why a text ended.
typedef enum {
  // The model ended it.
  QUIPU_STOP_END = 0,
  // One of the stop strings.
  QUIPU_STOP_STRING = 1,
  // max_tokens.
  QUIPU_STOP_LIMIT = 2,
  // The context is full.
  QUIPU_STOP_CONTEXT_FULL = 3,
  // The callback wanted no more.
  QUIPU_STOP_CALLBACK = 4,
} quipu_stop;

// A model, loaded. Several threads may hold it, but only one call at a time works on it; the others get
// QUIPU_STATUS_BUSY.
typedef struct quipu_model quipu_model;

// A bias of a token.
typedef struct {
  // Its id.
  uint32_t token;
  // Added to its logit; -INFINITY excludes it.
  float bias;
} quipu_bias;

// How a text is to be continued. quipu_params_default() fills it.
typedef struct {
  // sizeof(quipu_params): later versions of the library add fields at the end.
  size_t struct_size;
  // Tokens to write at most; 0: until the text or the context ends.
  uint32_t max_tokens;
  // 0 always takes the likeliest token; higher is wilder.
  float temperature;
  // Draw among the top_k likeliest tokens; 0: all.
  uint32_t top_k;
  // Draw among the fewest tokens with this probability together; 1: all.
  float top_p;
  // Draw among tokens at least min_p times as likely as the likeliest; 0: all.
  float min_p;
  // Discourage tokens seen lately by this factor; 1: off.
  float repeat_penalty;
  // Discourage tokens seen lately by this much for each time; 0: off.
  float frequency_penalty;
  // Discourage tokens seen lately by this much; 0: off.
  float presence_penalty;
  // How many tokens "lately" means for the penalties.
  uint32_t repeat_last_n;
  // The same seed gives the same text on every machine.
  uint64_t seed;
  // Not 0: special tokens that are written in the prompt (<|eot_id|>) are plain text.
  int plain;
  // Strings before which the text ends: an array of stop_count texts, which may be NULL when stop_count is 0.
  const char *const *stop;
  // How many stop strings there are.
  size_t stop_count;
  // A JSON schema: the text is JSON that is valid against it. NULL: none. What cannot be enforced is refused
  // (QUIPU_STATUS_ARGUMENT), and a text that ends with QUIPU_STOP_END is always complete. So it is with the next
  // two, of which, and of this one, only one may be set.
  const char *schema;
  // A grammar in GBNF, or in Lark after the word %llguidance: the text is one that it allows. NULL: none.
  const char *grammar;
  // A regular expression, which the whole text matches. NULL: none.
  const char *regex;
  // Draw among the fewest tokens whose surprise is nearest the expected one and that have this probability together;
  // 1: all.
  float typical_p;
  // Draw among tokens whose logits are at most so many standard deviations below the greatest; 0 or less: all.
  float top_n_sigma;
  // XTC: how often the top choices but the last are left out; 0: never.
  float xtc_probability;
  // XTC: how likely a top choice is at least; above 0.5: none is.
  float xtc_threshold;
  // How far the temperature moves either way with the entropy of the candidates; 0: not at all.
  float dynatemp_range;
  // A power of the entropy's share of the greatest possible, for dynatemp_range.
  float dynatemp_exponent;
  // DRY: discourages going on with what stands in the text already; 0: off.
  float dry_multiplier;
  // DRY: how fast that grows with the length of what is repeated; 1 or more.
  float dry_base;
  // DRY: up to so many tokens may be repeated freely.
  uint32_t dry_allowed_length;
  // DRY: how many of the last tokens are looked at; 0: off.
  uint32_t dry_last_n;
  // No sequence of so many tokens twice; 0: off.
  uint32_t no_repeat_ngram;
  // Mirostat's algorithm 1 or 2 in the place of all that truncates; 0: off.
  uint32_t mirostat;
  // Mirostat: the surprise to aim at, in bits.
  float mirostat_tau;
  // Mirostat: how fast it learns.
  float mirostat_eta;
  // DRY: texts over which no repetition reaches, an array of dry_breaker_count; NULL: a line end, ':', '"' and '*'.
  const char *const *dry_breakers;
  // How many of them there are.
  size_t dry_breaker_count;
  // The steps in their order by name, as in "top_k;temperature"; what is left out is not done. NULL:
  // "penalties;dry;top_n_sigma;top_k;typ_p;top_p;min_p;xtc;temperature".
  const char *samplers;
  // Added to the logits of tokens: an array of logit_bias_count, which may be NULL when that is 0.
  const quipu_bias *logit_bias;
  // How many biases there are.
  size_t logit_bias_count;
  // Texts that must not be written: an array of banned_count, which may be NULL when that is 0. Where one would
  // begin, another token is drawn, and nothing before it changes. Tokens in which one may have begun are held back:
  // the callback hears of them later.
  const char *const *banned;
  // How many of them there are.
  size_t banned_count;
  // Tokens of thought at most (between `<think>` and `</think>`, say), then what closes thoughts comes, and the
  // answer; -1: any number.
  int32_t thinking_budget;
  // Not 0: tokens that end the text are never drawn, unless it has come to the end of its schema, grammar or regex.
  int ignore_end;
} quipu_params;

// How a model is to be loaded. Zeros are the defaults of all but struct_size.
typedef struct {
  // sizeof(quipu_options): later versions of the library add fields at the end.
  size_t struct_size;
  // Threads; 0: one for each fast core that this process may use.
  uint32_t threads;
  // Tokens that prompt and answer may have together; 0: the model's own limit. Memory is taken as the text grows.
  uint32_t context;
  // The instruction set by name ("neon", "dotprod", "i8mm", "avx2", "avx512vnni", "portable"); NULL: the best that
  // the CPU has.
  const char *isa;
  // How kernels are tuned, which changes no result: NULL or "auto": by short measurements after the first tokens,
  // which are kept in the user's directory for caches; "off": not at all; or settings as `quipu doctor` lists them.
  const char *tuning;
  // In which numbers keys and values are kept: "f16" (or NULL), "f32", "q8" (half the memory of f16), "q4" (a
  // quarter, with a rounding that can be noticed) or "q8q4" (keys in 8 bits, values in 4).
  const char *kv;
} quipu_options;

// Hears the text as it is written: `len` bytes of UTF-8 at `text`, whole characters, no zero at the end, valid during
// the call only. `user` is what quipu_generate() was given. To go on, return 0; anything else ends the text.
//
// It is called once for each token, also when a token adds no text yet (`len` is 0), and before and while a long
// prompt is read, with `len` 0, so that reading can be stopped too. It must return: no C++ exception, no longjmp. It
// must not free the model.
typedef int (*quipu_callback)(const char *text, size_t len, void *user);

// What quipu_generate() did.
typedef struct {
  // sizeof(quipu_report), to be set before the call: no more than that is written.
  size_t struct_size;
  // Tokens of the prompt.
  size_t prompt_tokens;
  // Those that had to be read; the others were still known from the call before.
  size_t read_tokens;
  // Tokens written.
  size_t written_tokens;
  // Seconds that reading the prompt took.
  double read_seconds;
  // Seconds that writing took, without the callback's.
  double write_seconds;
  // Why the text ended.
  quipu_stop stop;
} quipu_report;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The library's version, as in "0.1.0". It lives for ever.
const char *quipu_version(void);

// A sentence about the last call of this thread that failed; "" if none did. It lives until the next failure on the
// same thread.
const char *quipu_last_error(void);

// Fills `params` with the defaults for quipu_generate(), as far as params->struct_size, which must be set before.
//
// # Safety
// `params` points to params->struct_size bytes (or is null).
quipu_status quipu_params_default(quipu_params *params);

// Loads the model at `path`: a GGUF file, a packed file, a Hugging Face directory, or the word "demo". `options` may
// be NULL. On success `*model` is the model, to be given to quipu_free() in the end; otherwise NULL.
//
// # Safety
// `path` and the texts of `options` are C strings (or null); `options` points to options->struct_size bytes and
// `model` to a pointer (or are null).
quipu_status quipu_open(const char *path, const quipu_options *options, quipu_model **model);

// What a user should know about the model although it was loaded, a line for each thing; "" if nothing, or if `model`
// is NULL. So far that is one thing: tensors of a type that is run as another, which takes more memory than the file.
// The text lives as long as the model.
//
// # Safety
// `model` came from quipu_open() and has not been freed, or is null.
const char *quipu_warnings(const quipu_model *model);

// Continues `prompt` and calls `callback` with the text, piece by piece. `params` may be NULL for the defaults,
// `report` may be NULL.
//
// The model remembers the last text: a prompt that begins with it (a conversation that has grown) is read from where
// they differ. That changes the time that it takes, never the result.
//
// # Safety
// `model` came from quipu_open() and has not been freed. `prompt` is a C string; `params` and `report` point to as
// many bytes as their struct_size says (or are null), and the texts in it are what their type says. `callback` does
// what its type asks.
quipu_status quipu_generate(const quipu_model *model,
                            const char *prompt,
                            const quipu_params *params,
                            quipu_callback callback,
                            void *user,
                            quipu_report *report);

// Keeps the last text, with what the model has read of it, in the file `path`, for a later quipu_session_open(). The
// file is written beside its place and takes it when it is complete; if that fails, whatever had the name stays.
// Nothing is kept before a first quipu_generate(): QUIPU_STATUS_SESSION.
//
// # Safety
// `model` came from quipu_open() and has not been freed (or is null), and `path` is a C string (or null).
quipu_status quipu_session_save(const quipu_model *model, const char *path);

// Takes the text that quipu_session_save() has kept in the file `path` for the last one: the next prompt that begins
// with it is read from where they differ, as if the model had not been freed meanwhile. The file stays. A file that
// was made with another model, other numbers of keys and values or another version of the library is refused
// (QUIPU_STATUS_SESSION), and so is one that was damaged; then the model remembers what it did.
//
// # Safety
// `model` came from quipu_open() and has not been freed (or is null), and `path` is a C string (or null).
quipu_status quipu_session_open(const quipu_model *model, const char *path);

// Frees the model. NULL is fine.
//
// # Safety
// `model` came from quipu_open(), has not been freed, and no other call is using it.
void quipu_free(quipu_model *model);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* QUIPU_H */
