mod sentences;
mod texts;
mod victim;
