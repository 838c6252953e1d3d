-- One series has one frame of reference (DIN-61): the first image that names one says which.

alter table series add column frame_of_reference text not null default '';
